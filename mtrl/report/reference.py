"""Published results, kept as data in ``published.json``."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtrl.status import count


@dataclass(slots=True, frozen=True)
class Published:
    """One published success rate.

    Args:
        task_set: MT10, MT3 or the name of a task.
        method: As its authors call it.
        success: Lower and upper end of the published figure; equal for a single number.
        aggregate: What the figure is over runs and tasks, "IQM" or "mean".
        steps: Environment steps, over all tasks.
        protocol: How it was measured.
        source: Who says so.
        goals: The goals it was measured on, "train" or "heldout"; None where nobody says.
        curve: (step, success) points of the learning curve, where published.
    """

    task_set: str
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
        """The figure in words: 81.2 %, or 97.3 to 99.5 %."""
        low, high = self.success
        return f"{100 * low:.1f} %" if low == high else f"{100 * low:.1f} to {100 * high:.1f} %"


def published(task_set: str) -> list[Published]:
    """Return the published results on a task set, best first; none for a set nobody published on."""
    found = [_published(entry) for entry in _entries() if entry["set"] == task_set]
    return sorted(found, key=lambda entry: -sum(entry.success))


def print_published() -> None:
    """Print all published results, the task sets in turn and the best of each first."""
    from rich.console import Console
    from rich.table import Table

    columns = ("set", "method", "success", "", "steps", "protocol", "source")
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for task_set in dict.fromkeys(entry["set"] for entry in _entries()):
        for one in published(task_set):
            steps = count(one.steps)
            table.add_row(task_set, one.method, one.figure, one.aggregate, steps, one.protocol, one.source)
    # A file or a pipe has no width: there, a row is one line however long.
    Console(width=None if sys.stdout.isatty() else 250, highlight=False).print(table)


def _entries() -> list[dict[str, Any]]:
    return json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))["entries"]


def _published(entry: dict[str, Any]) -> Published:
    success = entry["success"]
    return Published(
        entry["set"],
        entry["method"],
        tuple(success) if isinstance(success, list) else (success, success),
        entry["aggregate"],
        entry["steps"],
        entry["protocol"],
        entry["source"],
        entry.get("goals"),
        tuple(map(tuple, entry.get("curve", ()))),
    )
