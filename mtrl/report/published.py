"""Published results, kept as data in ``published.json``."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True, frozen=True)
class Published:
    """One published success rate on a task set (MT10, MT3 or a task), and the protocol it was measured by.

    Both ends of ``success`` are equal where a single number was published; its ``aggregate`` over runs and tasks is
    "IQM" or "mean". ``steps`` are environment steps over all tasks, ``goals`` None where nobody says them, and
    ``curve`` (step, success) points of the learning curve.
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
    entries = [Published(**entry) for entry in content["entries"]]
    sets = list(dict.fromkeys(entry.set for entry in entries))
    entries.sort(key=lambda entry: (sets.index(entry.set), -sum(entry.success)))
    return [entry for entry in entries if task_set in (None, entry.set)]
