"""The tables on what the runs of a report are: their speed, states, settings, versions."""

from collections.abc import Sequence

import numpy as np

from mtrl.report.notices import project_version
from mtrl.report.settings import learning_settings, show
from mtrl.report.sheets import Cell, Sheet, number
from mtrl.report.study import Study
from mtrl.rundir.run import Run, flatten
from mtrl.status import count, duration


def throughput_sheet(study: Study) -> Sheet:
    """Return the speed of every group and where its time went."""
    rows = []
    for comparison in study.comparisons:
        for group in comparison.groups:
            runs = [member.run for member in group.members]
            seconds = [run.seconds for run in runs if run.seconds]
            speeds = [run.step / run.seconds for run in runs if run.seconds]
            shares = [_share(runs, name) for name in ("environment", "learning", "evaluation")]
            name = group.label if len(study.comparisons) == 1 else f"{comparison.heading}: {group.label}"
            total = float(np.sum(seconds)) if seconds else None
            rows.append(
                [
                    Cell(name, series=group.series),
                    number(float(np.mean(speeds)) if speeds else None),
                    number(float(np.min(speeds)) if speeds else None),
                    number(float(np.max(speeds)) if speeds else None),
                    *(Cell("–") if s is None else Cell(f"{100 * s:.0f} %", round(s, 4)) for s in shares),
                    Cell("–") if total is None else Cell(duration(total), round(total, 1)),
                    Cell(", ".join(sorted({run.host for run in runs if run.host})) or "–"),
                ]
            )
    columns = [
        "group",
        "steps/s",
        "slowest",
        "fastest",
        "environment",
        "learning",
        "evaluation",
        "time, all runs",
        "machine",
    ]
    note = "Environment steps per second of wall-clock time over whole runs, restarts included; their mean."
    return Sheet("throughput", "Throughput", columns, rows, note)


def run_sheet(study: Study) -> Sheet:
    """Return every run with its state."""
    places = {id(m.run): (c, g) for c in study.comparisons for g in c.groups for m in g.members}
    rows = []
    for run in study.runs:
        comparison, group = places.get(id(run), (None, None))
        total = run.total_steps
        rows.append(
            [
                Cell(str(run.path), series=group.series if group else None),
                Cell(f"{comparison.heading}: {group.label}" if comparison and group else "left out"),
                Cell("–" if run.seed is None else str(run.seed), run.seed),
                Cell(run.state, alarm=run.state not in ("finished", "running")),
                Cell(
                    f"{count(run.step)}{' of ' + count(total) if total else ''}", {"": run.step, "of": total}
                ),
                Cell("–") if run.seconds is None else Cell(duration(run.seconds), round(run.seconds, 1)),
                Cell(str(len(run.starts)), len(run.starts)),
                Cell(run.host or "–"),
                Cell(project_version(run) or "–"),
            ]
        )
    columns = ["run", "group", "seed", "state", "steps", "time", "starts", "machine", "version"]
    return Sheet("runs", "Runs", columns, rows, folded=len(rows) > 12)


def settings_sheet(study: Study) -> Sheet:
    """Return the settings in which the groups differ."""
    groups = [(comparison, group) for comparison in study.comparisons for group in comparison.groups]
    settings = [group.settings for _, group in groups]
    keys = list(dict.fromkeys(key for values in settings for key in values))
    rows = []
    for key in keys:
        if len({repr(values.get(key)) for values in settings}) > 1:
            rows.append(
                [Cell(key), *(Cell(show(values[key]) if key in values else "–") for values in settings)]
            )
    names = [g.label if len(study.comparisons) == 1 else f"{c.heading}: {g.label}" for c, g in groups]
    note = "Settings that change what is learned and that differ between groups; all others are equal."
    return Sheet("settings", "Differences in the configuration", ["setting", *names], rows, note)


def common_settings_sheet(study: Study) -> Sheet:
    """Return the settings that all runs share."""
    settings = [learning_settings(run) for run in study.runs]
    same = [
        key for key in settings[0] if all(repr(v.get(key, "")) == repr(settings[0][key]) for v in settings)
    ]
    rows = [[Cell(key), Cell(show(settings[0][key]))] for key in same]
    return Sheet("common-settings", "Settings that all runs share", ["setting", "value"], rows, folded=True)


def environment_sheet(study: Study) -> Sheet:
    """Return versions and machines, with the runs that each value holds for."""
    found: dict[str, dict[str, list[Run]]] = {}
    for run in study.runs:
        for key, value in flatten(run.environment).items():
            if not {"command", "command_line", "argv", "time"} & set(key.split(".")):
                found.setdefault(key, {}).setdefault(show(value), []).append(run)
    rows = []
    for key, values in found.items():
        several = len(values) > 1
        for value, runs in values.items():
            which = f"{len(runs)} of {len(study.runs)} runs" if len(runs) < len(study.runs) else "all"
            rows.append([Cell(key), Cell(value, alarm=several), Cell(which)])
    return Sheet("versions", "Versions and machines", ["what", "value", "runs"], rows, folded=True)


def _share(runs: Sequence[Run], name: str) -> float | None:
    values = [run.timing[name] for run in runs if len(run.timing) and name in run.timing.columns]
    means = [float(np.nanmean(column)) for column in values if np.isfinite(column).any()]
    return float(np.mean(means)) if means else None
