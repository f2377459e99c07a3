"""Checks of a single value, each with the sentence that names it."""

from math import inf


class ConfigurationError(ValueError):
    """A configuration that cannot run; the message is one sentence that names the mistake and the mend."""


def require(condition: bool, message: str) -> None:
    """Raise ConfigurationError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ConfigurationError(message)


def require_choice(key: str, value: object, choices: tuple[str, ...], why: str = "") -> None:
    """Refuse a value that is none of ``choices``."""
    require(value in choices, f"{key}={value} is not one of {', '.join(choices)}{why}")


def whole_steps(key: str, value: float, minimum: int = 1) -> int:
    """Return a count given as ``1000`` or ``1e3`` as an integer; refuse any other."""
    require(float(value).is_integer(), f"{key}={value} must be a whole number")
    require(value >= minimum, f"{key}={value} must be at least {minimum}")
    return int(value)


def require_positive(key: str, value: float | None) -> None:
    """Refuse a number that is not positive and finite; None is none."""
    require(value is None or 0 < value < inf, f"{key}={value} must be a finite number greater than 0")


def require_fraction(key: str, value: float | None) -> None:
    """Refuse a number outside of 0 to 1; None is none."""
    require(value is None or 0 <= value <= 1, f"{key}={value} must lie between 0 and 1")


def require_layers(key: str, widths: list[int]) -> None:
    """Refuse widths of layers that make no network."""
    valid = bool(widths) and all(width > 0 for width in widths)
    require(valid, f"{key}={widths} must be a list of one or more widths above 0")
