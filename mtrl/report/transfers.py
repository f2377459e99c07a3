"""What runs that began from other runs kept of what those could do."""

import numpy as np

from mtrl.report.sheets import Cell, Sheet, percent
from mtrl.report.study import Comparison
from mtrl.rundir.run import Run

_LOST = 0.1
"""A loss of success beyond ten points is marked."""


def transfer_sheet(comparison: Comparison) -> Sheet | None:
    """Return the success on the source's tasks before and after training, None without a transfer."""
    rows = []
    for group in comparison.groups:
        known = [found for member in group.members if (found := _source_success(member.run))]
        for task in dict.fromkeys(task for before, _ in known for task in before):
            pairs = [
                (before[task], after[task]) for before, after in known if task in before and task in after
            ]
            if not pairs:
                continue
            before, after = np.mean(pairs, axis=0)
            change = Cell(
                f"{100 * (after - before):+.1f} points",
                round(after - before, 6),
                alarm=before - after > _LOST,
            )
            rows.append(
                [
                    Cell(group.label, series=group.series),
                    Cell(task),
                    Cell(str(len(pairs)), len(pairs)),
                    percent(float(before)),
                    percent(float(after)),
                    change,
                ]
            )
    if not rows:
        return None
    note = (
        "Success of the deterministic policy on the tasks of the run it began from: before its first update, "
        "which is what the source could do, and at the end. Means over seeds."
    )
    columns = ["group", "task of the source", "seeds", "before", "after", "change"]
    return Sheet(f"{comparison.slug}-transfer", "What was kept of the source", columns, rows, note)


def _source_success(run: Run) -> tuple[dict[str, float], dict[str, float]] | None:
    """Return the success by task before and after, None where the run has not both."""
    transfer = run.status.get("transfer")
    found = transfer.get("source_success") if isinstance(transfer, dict) else None
    if not isinstance(found, dict):
        return None
    parts = [found.get(name) for name in ("before", "after")]
    if not all(isinstance(part, dict) for part in parts):
        return None
    before, after = ({task: rate for task, rate in part.items() if _is_rate(rate)} for part in parts)
    return before, after


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
