"""Whether overrides name what there is: groups, options, keys. A mistake is answered with the nearest name."""

import re
from collections.abc import Mapping, Sequence

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from omegaconf.errors import (
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from mtrl.config.types import owners_of, require
from mtrl.errors import ConfigurationError
from mtrl.tasks import closest


def sentence(error: BaseException) -> str:
    """Return a complaint of Hydra's or OmegaConf's as ``key: what is wrong``, whichever layer wrapped it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OmegaConfBaseException) and cause.full_key:
            if isinstance(cause, ConfigKeyError):
                return f"{cause.full_key} is set, which does not exist: take it out"
            if isinstance(cause, MissingMandatoryValue):
                return f"{cause.full_key} has no value: set it with {cause.full_key}=..."
            looked_up = isinstance(cause, InterpolationResolutionError)
            wrong = "has no value" if looked_up else "has the wrong type"
            return f"{cause.full_key} {wrong}: {first_sentence(cause.msg or cause)}"
        cause = cause.__cause__ or cause.__context__
    return first_sentence(error)


def first_sentence(error: object) -> str:
    """Return the first line of a message, without its full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


_SYNONYMS = {
    "algorithm": "algo",
    "environment": "env",
    "agent": "algo",
    "eval": "evaluation",
    "steps": "total_steps",
    "total_timesteps": "total_steps",
    "n_envs": "env.copies_per_task",
    "lr": "algo.learning_rate",
}
"""Words that stable-baselines3 and its users have for keys, by the keys' names here."""
_OF_A_SWEEP = re.compile(
    r"hydra/(launcher|job_logging|hydra_logging)|hydra\.(sweep\.dir|sweeper\.max_batch_size|verbose"
    r"|(launcher|job\.env_set|job_logging|hydra_logging)(\..+)?|job\.(env_copy|name))"
)
"""Hydra's keys that do something to a sweep; to a single run only ``hydra.verbose`` does."""
_OF_A_PLACE = re.compile(r"hydra\.(run(\.dir)?|sweep\.subdir|output_subdir|job\.chdir)")


def is_free(key: str) -> bool:
    """Return whether what ``key`` holds has names that only the person who gives it knows."""
    return f"{key}.".startswith(("algo.kwargs.", "curriculum.difficulty."))


def check_once(words: Sequence[str]) -> None:
    """Refuse a command line that says two things of one key, of which Hydra would take the last."""
    given: dict[str, str] = {}
    for word in words:
        key = word.partition("=")[0].lstrip("+")
        twice = f"{given.get(key)} and {word} both set {key}: leave one of them out"
        require(given.setdefault(key, word) == word, twice)


def check_hydras(overrides: Sequence[Override], *, sweep: bool) -> None:
    """Refuse a key of Hydra's own that would change nothing, or names code to run."""
    for override in overrides:
        key, line = override.key_or_group, override.input_line
        if not override.is_hydra_override():
            continue
        ours = "only the launchers that Hydra ships are allowed, as hydra/launcher=..."
        require("_target_" not in line, f"{line} names code to run: {ours}")
        where = f"{line} does not move a run, whose directory follows from what it learns: use output=..."
        require(not _OF_A_PLACE.fullmatch(key), where)
        require(key != "hydra.mode", f"{line} is not looked at: add -m for a sweep")
        known = _OF_A_SWEEP.fullmatch(key) and not override.is_delete()
        does = "of Hydra's own keys there are hydra/launcher, hydra.launcher, hydra.sweep.dir, hydra.verbose"
        require(bool(known), f"{line} would change nothing: leave it out; {does}")
        alone = key == "hydra.verbose" or sweep
        require(alone, f"{line} is for the members of a sweep: add -m, or leave it out")
        several = f"{line} varies how Hydra runs, which holds for all members: give one value"
        require(not override.is_sweep_override(), several)
        if key == "hydra.verbose":
            require(isinstance(override.value(), bool), f"{line} must be true or false")


def check_form(overrides: Sequence[Override]) -> None:
    """Refuse overrides of a form, or together with others, that cannot be meant."""
    given = {}
    for override in overrides:
        key, line = override.key_or_group, override.input_line
        if override.is_hydra_override():
            continue
        deletes = f"{line} deletes, which nothing here allows: leave it out, or set {key}=..."
        require(not override.is_delete(), deletes)
        package = f"{line} names a package, which no group here has: write it without @"
        require(override.package is None, package)
        require(not override.is_sweep_override(), f"{line} gives several values: add -m to run each of them")
        if key in ("phase", "total_steps") and override.value() is not None:
            given[key] = line
    lines = " and ".join(given[key] for key in sorted(given))
    require(len(given) < 2, f"{lines} both say how long to train: leave one of them out")


def check_options(overrides: Sequence[Override], known: Mapping[str, list[str]]) -> None:
    """Refuse an option that its group, one of those ``known`` or of Hydra's own, does not have."""
    of_hydra = GlobalHydra.instance().config_loader().get_group_options
    for override in overrides:
        group = override.key_or_group
        is_hydras = group.startswith("hydra/")
        if override.is_delete() or override.is_sweep_override() or not (group in known or is_hydras):
            continue
        # Of the groups known, Hydra would list the schemas too, which nobody may choose.
        options = of_hydra(group, ObjectType.CONFIG) if is_hydras else known[group]
        if not options:
            own = [f"hydra/{name}" for name in of_hydra("hydra", ObjectType.GROUP)]
            near = closest(group, own)
            hint = f"did you mean {near}?" if near else f"Hydra has {', '.join(own)}"
            raise ConfigurationError(f"there is no group {group!r}: {hint}")
        near = closest(str(override.value()), options)
        hint = f" (did you mean {near}?)" if near else ""
        refusal = f"{override.input_line} does not exist{hint}: the options are {', '.join(options)}"
        require(override.value() in options, refusal)
        require(
            not override.is_add(), f"{override.input_line} adds a group that is there: write it without +"
        )


def check_keys(overrides: Sequence[Override], known: Mapping[str, list[str]], keys: Sequence[str]) -> None:
    """Refuse a key that is not among ``keys``, those of the options chosen, or that the choice of an option decides."""
    names = {f"{group}.name" for group in known} & set(keys)
    candidates = list(dict.fromkeys([*(key for key in keys if key not in names), *known]))
    for override in overrides:
        key = override.key_or_group
        if key in known or override.is_hydra_override() or is_free(key):
            continue
        if key in names:
            group = key.partition(".")[0]
            raise ConfigurationError(
                f"{key} is the name of the option chosen: choose another with {group}=..."
            )
        if key not in keys:
            owners, near = owners_of(key), _nearest(key, candidates)
            either = " or ".join(filter(None, (", ".join(near[:-1]), *near[-1:])))
            hint = f"did you mean {either}?" if near else "python -m mtrl --cfg job shows every key"
            hint = f"it belongs to {owners[0]}" if owners else hint
            raise ConfigurationError(f"there is no key {key!r} in this configuration: {hint}")
        twice = f"{override.input_line} adds a key that is there: write it without +"
        require(not override.is_add() or override.is_force_add(), twice)


def _nearest(key: str, candidates: Sequence[str]) -> list[str]:
    """Return the candidates that ``key`` may be a slip for: all of one last word, where only that is known."""
    head, _, rest = key.partition(".")
    leaf = key.rpartition(".")[2]
    translated = _SYNONYMS.get(head, head) + (f".{rest}" if rest else "")
    for word in (translated, _SYNONYMS.get(leaf)):
        if word in candidates:
            return [word]
    leaves: dict[str, list[str]] = {}
    for candidate in candidates:
        leaves.setdefault(candidate.rpartition(".")[2], []).append(candidate)
    if leaf in leaves:
        return leaves[leaf]
    near = closest(translated, candidates) if rest else None
    return [near] if near else leaves.get(closest(leaf, list(leaves)) or "", [])
