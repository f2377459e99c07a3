"""Published results, kept as data in ``published.json``."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True, frozen=True)
class Published:
    """One published success rate.

    Args:
        set: MT10, MT3 or the name of a task.
        method: As its authors call it.
        success: Lower and upper end of the published figure; equal for a single number.
        aggregate: What the figure is over runs and tasks, "IQM" or "mean".
        steps: Environment steps, over all tasks.
        protocol: How it was measured.
        source: Who published it.
        goals: The goals it was measured on, "train" or "heldout"; None where nobody says.
        curve: [step, success] points of the learning curve, where published.
    """

    set: str
    method: str
    success: tuple[float, float]
    aggregate: str
    steps: int
    protocol: str
    source: str
    goals: str | None = None
    curve: tuple[tuple[float, float], ...] = ()

    @property
    def figure(self) -> str:
        """The success rate in words: 81.2 %, or 97.3 to 99.5 %."""
        low, high = self.success
        return f"{100 * low:.1f} %" if low == high else f"{100 * low:.1f} to {100 * high:.1f} %"


def published(task_set: str | None = None) -> list[Published]:
    """Return the published results on one task set, or on all of them in turn; the best of each first."""
    content = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
    entries = []
    for entry in content["entries"]:
        success = entry["success"]
        entries.append(
            Published(**entry | {"success": tuple(success) if isinstance(success, list) else (success,) * 2})
        )
    sets = dict.fromkeys(entry.set for entry in entries) if task_set is None else [task_set]
    return [
        entry
        for name in sets
        for entry in sorted(entries, key=lambda entry: -sum(entry.success))
        if entry.set == name
    ]
