"""Published results, kept as data in ``published.json``."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True, frozen=True)
class Published:
    """One published success rate.

    Args:
        task_set: MT10, MT3 or the name of a task.
        method: As its authors call it.
        success: Lower and upper end of the published figure; equal for a single number.
        steps: Environment steps, over all tasks.
        protocol: How it was measured.
        source: Who says so.
        curve: (step, success) points of the learning curve, where published.
    """

    task_set: str
    method: str
    success: tuple[float, float]
    steps: int
    protocol: str
    source: str
    curve: tuple[tuple[float, float], ...] = ()


def published(task_set: str) -> list[Published]:
    """Return the published results on a task set, best first; none for a set nobody published on."""
    entries = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))["entries"]
    found = []
    for entry in entries:
        if entry["set"] != task_set:
            continue
        success = entry["success"]
        ends = tuple(success) if isinstance(success, list) else (success, success)
        curve = tuple(map(tuple, entry.get("curve", ())))
        found.append(
            Published(
                task_set, entry["method"], ends, entry["steps"], entry["protocol"], entry["source"], curve
            )
        )
    return sorted(found, key=lambda entry: -sum(entry.success))
