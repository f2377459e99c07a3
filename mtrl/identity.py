"""Where a run lives: a directory that is a function of what is learned; the same command finds it again."""

import hashlib
import json
from pathlib import Path
from typing import Any

from mtrl.compose import Composition, defaults_of

# Neither decides what is learned: how long, on what machine, what is written down.
_NOT_LEARNED = frozenset(
    (
        "experiment",
        "seed",
        "total_steps",
        "phase",
        "phases",
        "fresh",
        "dry_run",
        "output",
        "hardware",
        "checkpoint",
        "logging",
        "stop",
        "evaluation",
    )
)
_NOT_LEARNED_KEYS = frozenset({"curriculum.start_stage"})
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
        recipe = defaults_of(experiment=experiment)
        usual = recipe.choices
        differing = {group: option for group, option in chosen.items() if usual.get(group) != option}
        base = defaults_of(experiment=experiment, **differing).values if differing else recipe.values
    else:
        differing, base = chosen, defaults_of(**chosen).values
    flat, usual_values = _flat(composition.values), _flat(base)
    changed = {key: value for key, value in flat.items() if usual_values.get(key, _ABSENT) != value}
    learned = {key: value for key, value in changed.items() if is_learned(key)}
    return differing | {key: value for key, value in learned.items() if not key.endswith(".name")}


def is_learned(key: str) -> bool:
    """Tell whether a flat key of the configuration decides what is learned."""
    return key.split(".")[0] not in _NOT_LEARNED and key not in _NOT_LEARNED_KEYS


_ABSENT = object()


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _brief(value: object) -> str:
    text = "x".join(map(str, value)) if isinstance(value, list) else str(value)
    return "".join(character for character in text if character.isalnum() or character in "._-+")
