"""Checks of a single value, each with the sentence that names it."""

from math import inf, isfinite


class ConfigurationError(ValueError):
    """A configuration that cannot run; the message is one sentence that names the mistake and the mend."""


def require(condition: bool, message: str) -> None:
    """Raise ConfigurationError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ConfigurationError(message)


def require_choice(key: str, value: object, choices: tuple[str, ...], why: str = "") -> None:
    """Refuse a value that is none of ``choices``."""
    require(value in choices, f"{key}={value} is not one of {', '.join(choices)}{why}")


def is_number(value: object) -> bool:
    """Tell whether a value of a form without types is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole_steps(key: str, value: float, minimum: int = 1) -> int:
    """Return a count given as ``1000`` or ``1e3`` as an integer; refuse any other."""
    require(is_number(value) and float(value).is_integer(), f"{key}={value} must be a whole number")
    require(value >= minimum, f"{key}={value} must be at least {minimum}")
    return int(value)


def require_positive(key: str, value: float | None) -> None:
    """Refuse a number that is not positive and finite; None is none."""
    require(value is None or 0 < value < inf, f"{key}={value} must be a finite number greater than 0")


def require_not_negative(key: str, value: float) -> None:
    """Refuse a number below 0, an infinite one, and NaN."""
    require(0 <= value < inf, f"{key}={value} must not be negative and must be finite")


def auto_or_number(key: str, value: str | float, *, initial: bool = False) -> str | float:
    """Return ``auto``, or a finite number as a float.

    Args:
        key: The key that holds it.
        value: As it was given.
        initial: Whether ``auto_<number above 0>`` may stand for a learned value that begins there, and any
            number must not be negative.
    """
    text = str(value)
    learned = initial and text.startswith("auto_")
    number = _number(text.removeprefix("auto_") if learned else text)
    if text == "auto" or (learned and number is not None and number > 0):
        return text
    known = number is not None and not learned and (number >= 0 or not initial)
    forms = (
        "auto or a number of at least 0, or auto_<initial value above 0>" if initial else "auto or a number"
    )
    require(known, f"{key}={value} must be {forms}")
    return float(text)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None


def require_fraction(key: str, value: float | None) -> None:
    """Refuse a number outside of 0 to 1; None is none."""
    require(value is None or 0 <= value <= 1, f"{key}={value} must lie between 0 and 1")


def require_layers(key: str, widths: list[int]) -> None:
    """Refuse widths of layers that make no network."""
    valid = bool(widths) and all(width > 0 for width in widths)
    require(valid, f"{key}={widths} must be a list of one or more widths above 0")
