"""What a search varies: parameters of a configuration and their ranges, read from ``conf/search/*.yaml``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mtrl.config.compose import CONF, groups
from mtrl.errors import ConfigurationError

if TYPE_CHECKING:
    from optuna import Trial

Value = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Parameter:
    """One key of the configuration and the values it may take."""

    key: str
    choices: tuple[Value, ...] = ()
    """The values to choose from; empty for a range."""
    low: float = 0
    high: float = 0
    log: bool = False
    """Whether a range is searched by its logarithm."""
    step: float | None = None
    """Distance of the values of a range, None for any."""

    @property
    def ends(self) -> tuple[Value, ...]:
        """The values at the edge of what may come, which must all be valid."""
        return self.choices or (self.low, self.high)

    def suggest(self, trial: "Trial") -> Value:
        """Return the value that ``trial`` takes."""
        if self.choices:
            return trial.suggest_categorical(self.key, self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log, step=int(self.step or 1))
        return trial.suggest_float(self.key, self.low, self.high, log=self.log, step=self.step)


def read_space(name: str) -> list[Parameter]:
    """Return the search space ``conf/search/<name>.yaml``, or that of the file ``name``.

    Raises:
        ConfigurationError: There is none, or it holds something else, in one sentence.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else CONF / "search" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in (CONF / "search").glob("*.yaml")))
        raise ConfigurationError(f"search={name} does not exist: the options are {known}, or a YAML file")
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except (OmegaConfBaseException, yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"search={name} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or not content:
        raise ConfigurationError(f"search={name} names no parameter: write lines such as {_EXAMPLE}")
    return [_parameter(str(key), value) for key, value in content.items()]


_EXAMPLE = "algo.tau: {low: 0.001, high: 0.1, log: true} or algo.gamma: {choices: [0.9, 0.99]}"


def _parameter(key: str, value: object) -> Parameter:
    mend = f"write {_EXAMPLE}"
    if key in groups():
        raise ConfigurationError(
            f"the search space varies {key}, a group, and a tuning file cannot choose among its options: search "
            f"once for each of them, with {key}=... on the command line"
        )
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"the search space says {key}: {value}, which is no range: {mend}")
    options: dict[str, Any] = dict(value)
    if set(options) == {"choices"} and isinstance(options["choices"], list) and options["choices"]:
        choices = tuple(str(c).replace(" ", "") if isinstance(c, list) else c for c in options["choices"])
        return Parameter(key, choices)
    numbers = {name: options.get(name) for name in ("low", "high")}
    unknown = set(options) - {"low", "high", "log", "step"}
    if unknown or not all(map(_is_number, numbers.values())):
        raise ConfigurationError(f"the search space of {key} needs choices, or low and high: {mend}")
    low, high, log, step = numbers["low"], numbers["high"], options.get("log", False), options.get("step")
    if not isinstance(log, bool) or not low < high or (log and low <= 0):
        raise ConfigurationError(
            f"the search space of {key} goes from {low} to {high}: low must be below "
            "high, and above 0 where log is true"
        )
    if step is None:
        return Parameter(key, **options)
    if log:
        raise ConfigurationError(f"the search space of {key} has log and step: leave out one of them")
    whole = isinstance(low, int) and isinstance(high, int)
    if not _is_number(step) or step <= 0 or (whole and step != int(step)):
        hint = f": write low: {float(low)} for a range of fractions" if whole else ""
        raise ConfigurationError(
            f"the search space of {key} has the step {step}, and needs a {'whole ' * whole}number above 0{hint}"
        )
    return Parameter(key, **options)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def written(value: Value) -> str:
    """Return a value as an override writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
