"""Which settings make groups of runs, and what a group is called."""

import re
from collections import Counter
from typing import Any

from mtrl.rundir.run import Run
from mtrl.tasks import MT3, MT10, MT25, MT50

NOT_LEARNED = frozenset(
    {"choices", "hardware", "checkpoint", "logging", "tracker", "wandb", "stop", "evaluation", "hydra"}
    | {"total_steps", "phase", "phases", "fresh", "dry_run", "output"}
)
"""Groups and keys of the configuration that do not change what is learned: they make no groups of runs."""

_NOT_LEARNED_KEYS = frozenset({"curriculum.start_stage", "transfer.baseline"})

_TELLING = (
    "experiment",
    "task",
    "algo.name",
    "algo.cls",
    "variant.name",
    "curriculum.name",
    "transfer.source",
)
"""The keys that people name a group by, the first ones first."""


def learning_settings(run: Run) -> dict[str, Any]:
    """Return the settings that decide what is learned, without the seed and what is derived from it."""
    return {
        key: _without_seed(value)
        for key, value in run.settings.items()
        if key.split(".")[0] not in NOT_LEARNED
        and key not in _NOT_LEARNED_KEYS
        and key.rsplit(".", 1)[-1] != "seed"
    }


def group_labels(settings: list[dict[str, Any]]) -> list[str]:
    """Return a short label for each group: the fewest telling settings that tell the groups apart."""
    keys = list(dict.fromkeys(key for values in settings for key in values))
    differing = [key for key in keys if len({repr(values.get(key)) for values in settings}) > 1]
    telling = [key for key in _TELLING if key in differing]
    rest = sorted(set(differing) - set(telling), key=lambda key: (key.count("."), key))
    chosen: list[str] = []
    parts: list[list[str]] = [[] for _ in settings]
    for key in telling + rest:
        if len(Counter(map(tuple, parts))) == len(settings):
            break
        refined = [[*part, repr(values.get(key))] for part, values in zip(parts, settings, strict=True)]
        if len(Counter(map(tuple, refined))) > len(Counter(map(tuple, parts))):
            parts = refined
            chosen.append(key)
    if not chosen:
        return [_plain_label(values) for values in settings]
    labels = [" · ".join(_part(key, _shortened(values)) for key in chosen) for values in settings]
    if len(set(labels)) < len(labels):
        labels = [" · ".join(_part(key, values) for key in chosen) for values in settings]
    # Two classes of one name, or numbers equal to six digits, read alike.
    seen = [labels[:index].count(label) + 1 for index, label in enumerate(labels)]
    return [label if time == 1 else f"{label} ({time})" for label, time in zip(labels, seen, strict=True)]


def _shortened(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with a transfer's source as the name of its run, which a legend has room for.

    ``outputs/mt1/reach-v3-537624e1/seed=1/checkpoints/best`` becomes ``reach-v3``.
    """
    source = values.get("transfer.source")
    found = (
        re.search(r"([^/]+?)(?:-[0-9a-f]{8})?/seed=[^/]*(?:/|$)", source) if isinstance(source, str) else None
    )
    return values | {"transfer.source": found[1]} if found else values


def _plain_label(values: dict[str, Any]) -> str:
    names = [_part(key, values) for key in _TELLING[:5] if values.get(key) not in (None, "none")]
    return " · ".join(dict.fromkeys(names)) or "all runs"


def _part(key: str, values: dict[str, Any]) -> str:
    value = values.get(key)
    if key == "algo.cls" and isinstance(value, str):
        return value.rsplit(".", 1)[-1]
    if key == "curriculum.name" and value == "none":
        return "no curriculum"
    if key == "transfer.source":
        return f"transfer from {value}" if value else "no transfer"
    if key in _TELLING and value is not None:
        return str(value)
    return f"{key.rsplit('.', 1)[-1]}={show(value)}"


def show(value: Any) -> str:
    """Return a setting as people write it on the command line."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(map(show, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def task_set_title(tasks: tuple[str, ...]) -> str:
    """Return the name of a task set: MT10 and the like, the task itself, or how many there are."""
    for name, known in (("MT3", MT3), ("MT10", MT10), ("MT25", MT25), ("MT50", MT50)):
        if set(tasks) == set(known):
            return name
    if len(tasks) == 1:
        return tasks[0]
    return f"{len(tasks)} tasks" if tasks else "No tasks"


def _without_seed(value: Any) -> Any:
    return re.sub(r"seed=\d+", "seed=*", value) if isinstance(value, str) else value
