"""Where a run lives: a directory that is a function of what is learned; the same command finds it again."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from mtrl.config.compose import Composition, compose_run, defaults_of
from mtrl.config.types import MultiheadConfig, is_learned
from mtrl.config.values import flatten
from mtrl.rundir.models import source_content

_READABLE_LENGTH = 80


def run_directory(composition: Composition) -> Path:
    """Return ``<output>/<experiment>/<readable>-<8 hex>/seed=<n>``.

    The hash covers the keys that decide what is learned and differ from their options' defaults, so that a
    key added to the project later changes no directory.
    """
    cfg = composition.config
    learned = differences(composition, from_recipe=False)
    digest = hashlib.sha256(json.dumps(learned, sort_keys=True).encode()).hexdigest()[:8]
    said = differences(composition, from_recipe=True)
    words = [cfg.task] if cfg.task else []
    words += [
        f"{key}={_brief(value)}" for key, value in sorted(said.items()) if key not in ("task", "env.tasks")
    ]
    if "env.tasks" in said and not cfg.task:
        words.insert(0, f"{len(cfg.env.tasks)}-tasks")
    readable = ",".join(words)[:_READABLE_LENGTH].rstrip(",.=") or "default"
    return Path(cfg.output) / cfg.experiment / f"{readable}-{digest}" / f"seed={cfg.seed}"


def differences(composition: Composition, *, from_recipe: bool) -> dict[str, Any]:
    """Return what the run sets otherwise than the defaults (or than its recipe), as flat keys.

    The choices of groups that matter stand among them under the group's name.
    """
    chosen = {group: composition.choices[group] for group in ("algo", "variant", "curriculum")}
    if from_recipe:
        experiment = composition.choices["experiment"]
        recipe = defaults_of(experiment=experiment, tuned=composition.tuned)
        usual = recipe.choices
        differing = {group: option for group, option in chosen.items() if usual.get(group) != option}
        base = recipe.values
        if differing:
            base = defaults_of(experiment=experiment, tuned=composition.tuned, **differing).values
    else:
        differing, base = chosen, defaults_of(**chosen).values
    flat, usual_values = flatten(composition.values), flatten(base)
    changed = {key: value for key, value in flat.items() if usual_values.get(key, _ABSENT) != value}
    learned = {key: value for key, value in changed.items() if is_learned(key)}
    if not composition.config.transfer.active:
        learned = {key: value for key, value in learned.items() if not key.startswith("transfer.")}
    else:
        learned["transfer.from"] = _origin(composition)
    return differing | {key: value for key, value in learned.items() if not key.endswith(".name")}


def _origin(composition: Composition) -> str:
    """Return what a run starts from: the identity of a run trained for it, or the content of a model."""
    first = source_run(composition)
    if first is None:
        return source_content(composition.config)[:8]
    # Without its seed, which is this run's: runs that differ in the seed alone stay side by side.
    folder = run_directory(first).relative_to(first.config.output).parent
    return f"{folder} at {first.config.total_steps}"


def source_run(composition: Composition) -> Composition | None:
    """Return the run that ``transfer.train`` describes, None without one.

    It takes over from this run what its networks and its place depend on: they must fit, and lie together.

    Raises:
        ConfigurationError: It cannot run.
    """
    cfg = composition.config
    if not cfg.transfer.train:
        return None
    shared = [words for words in composition.overrides if _key(words).startswith(_SHARED)]
    said = _without_repeats(shared, cfg.transfer.train)
    own = [*shared, f"seed={cfg.seed}", f"output={cfg.output}", f"dry_run={_hydra(cfg.dry_run)}"]
    own += [f"variant.{key}={_hydra(getattr(cfg.variant, key))}" for key in _WIDTHS]
    variant = ["variant=shared" if cfg.variant.task_id else "variant=plain"]
    first = _composed(_without_repeats([*own, *variant], cfg.transfer.train), composition.here)
    if isinstance(cfg.variant, MultiheadConfig) and len(first.config.env.tasks) > 1:
        heads = [f"variant.{key}={_hydra(getattr(cfg.variant, key))}" for key in _HEADS]
        multihead = [*own, "variant=multihead", *heads]
        first = _composed(_without_repeats(multihead, cfg.transfer.train), composition.here)
    return replace(first, said=said)


_SHARED = (
    "algo",
    "env.horizon",
    "env.reward",
    "env.norm",
    "env.copies",
    "hardware",
    "checkpoint.",
    "logging.",
)
"""Overrides on the command line that hold for a run and for the one trained before it."""
_WIDTHS, _HEADS = ("actor_layers", "critic_layers", "layer_norm"), ("shared_layers", "actor_heads")


@cache
def _composed(overrides: tuple[str, ...], here: bool) -> Composition:
    return compose_run(overrides, here=here)


def _without_repeats(overrides: Sequence[str], stronger: Sequence[str]) -> tuple[str, ...]:
    named = {_key(words) for words in stronger}
    return (*(words for words in overrides if _key(words) not in named), *stronger)


def _key(override: str) -> str:
    return override.split("=")[0].lstrip("+~")


def _hydra(value: object) -> str:
    return str(value).replace(" ", "").lower()


_ABSENT = object()


def _brief(value: object) -> str:
    text = "x".join(map(str, value)) if isinstance(value, list) else str(value)
    return "".join(character for character in text if character.isalnum() or character in "._-+")
