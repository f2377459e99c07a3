"""The chapters of a report: which tables and drawings show a comparison, in which order."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

from mtrl.report import analysis, canvas, contents, figures
from mtrl.report.notices import comparison_notices
from mtrl.report.reference import Published, published
from mtrl.report.sheets import Sheet, mark, prose
from mtrl.report.study import Comparison, Study
from mtrl.report.transfers import transfer_sheet
from mtrl.status import count

MOST_PANELS = 50
"""Tasks that get a panel of their own; Meta-World has no more."""


@dataclass(slots=True)
class Picture:
    """A figure of the report.

    Args:
        name: Stem of its files.
        title: Heading.
        note: How to read it.
        markup: The drawing for the page.
        draw: The drawing for the files.
        width: Width of the files in pixels.
        legend: (label, group's place), empty where the drawing names its rows itself.
    """

    name: str
    title: str
    note: str
    markup: str
    draw: canvas.Draw
    width: int
    legend: canvas.Legend = ()

    def html(self) -> str:
        """Return heading, note, legend and drawing."""
        items = "".join(
            f'<li><i class="mark {mark(series)}"></i>{html.escape(label)}</li>'
            for label, series in self.legend
        )
        legend = f"<ul class=legend>{items}</ul>" if items else ""
        note = f"<p class=note>{prose(self.note)}</p>"
        return f"<section><h3>{html.escape(self.title)}</h3>{note}{legend}{self.markup}</section>"


@dataclass(slots=True)
class Chapter:
    """A heading with what stands under it, in order."""

    key: str
    title: str
    lead: str = ""
    notices: Sequence[str] = ()
    parts: list[Sheet | Picture | list[Picture]] = field(default_factory=list)


def comparison_chapter(comparison: Comparison, thresholds: Sequence[float], with_published: bool) -> Chapter:
    """Return the chapter of one comparison: each kind of goals in turn, then published results."""
    tasks = "1 task" if len(comparison.tasks) == 1 else f"{len(comparison.tasks)} tasks"
    horizon = f"horizon {comparison.horizon}" if comparison.horizon else "unknown horizon"
    lead = f"{tasks}, {comparison.reward} reward, {horizon}. {_names(comparison.tasks)}"
    chapter = Chapter(comparison.slug, comparison.title, lead, comparison_notices(comparison))
    entries = published(comparison.title) if with_published else []
    results = {goals: analysis.results(comparison, goals) for goals in comparison.kinds}
    for goals, measured in results.items():
        chapter.parts.append(contents.result_sheet(comparison, goals, measured))
        chapter.parts.append(_curves(comparison, goals, entries))
        if len(comparison.tasks) > 1:
            chapter.parts.append(_panels(comparison, goals))
        chapter.parts.append(_bars(comparison, goals, measured))
        found = analysis.pairs(comparison, goals)
        chapter.parts.append(
            [
                _aggregates(comparison, goals, measured),
                *([_improvement(comparison, goals, found)] if found else []),
            ]
        )
        chapter.parts.append(contents.threshold_sheet(comparison, goals, thresholds))
        if found:
            chapter.parts.append(contents.pair_sheet(comparison, goals, found))
        chapter.parts.append(contents.forgetting_sheet(comparison, goals))
        chapter.parts.append(contents.task_sheet(comparison, goals, measured))
    kept = transfer_sheet(comparison)
    if kept is not None:
        chapter.parts.append(kept)
    if entries and results:
        chapter.parts.append(_reference(comparison, next(iter(results.values())), entries))
        chapter.parts.append(contents.reference_sheet(comparison, results, entries))
    return chapter


def appendix(study: Study) -> Chapter:
    """Return the chapter on runs, their speed, settings and versions."""
    parts: list[Sheet | Picture | list[Picture]] = [contents.throughput_sheet(study)]
    settings = contents.settings_sheet(study)
    if settings.rows:
        parts.append(settings)
    parts += [
        contents.run_sheet(study),
        contents.common_settings_sheet(study),
        contents.environment_sheet(study),
    ]
    return Chapter("runs", "Runs, speed and settings", parts=parts)


def _curves(comparison: Comparison, goals: str, entries: Sequence[Published]) -> Picture:
    groups = [group for group in comparison.groups if group.with_goals(goals)]
    bands = [analysis.mean_band(group, goals) for group in groups]
    stages = [(group.series, starts) for group in groups if len(starts := analysis.stage_starts(group)) > 1]
    known = [entry for entry in entries if entry.curve]
    note = "Mean over tasks of the deterministic policy's success; thin lines are single seeds."
    if any(band.low is not None for band in bands):
        note += " Bands are stratified bootstrap 95 % intervals of the mean."
    if any(band.whole < len(band.steps) for band in bands):
        note += " Dotted where not every seed has got that far."
    if stages:
        note += " Marks under the axis are the mean steps at which a stage of the curriculum begins."
    if known:
        note += " Dashed grey is published, under its own protocol."
    draw = figures.curves(bands, stages, [entry.curve for entry in known])
    name = f"{comparison.slug}-{goals}-curves"
    title = f"Success while learning, {contents.GOALS[goals]}"
    legend = [*_legend(groups), *((f"{entry.method} (published)", None) for entry in known)]
    return Picture(name, title, note, _both(draw, name, title), draw, canvas.WIDE, legend)


def _panels(comparison: Comparison, goals: str) -> Picture:
    groups = [group for group in comparison.groups if group.with_goals(goals)]
    tasks = comparison.tasks[:MOST_PANELS]
    bands = [[analysis.task_band(group, goals, t) for group in groups] for t in range(len(tasks))]
    name = f"{comparison.slug}-{goals}-tasks"
    drawn = [
        canvas.inline(
            figures.panel(task, found), canvas.PANEL, f"{name}-{i}", f"success on {task} over steps"
        )
        for i, (task, found) in enumerate(zip(tasks, bands, strict=True))
    ]
    note = "Mean over seeds of each task's success, with bootstrap 95 % intervals."
    draw = figures.panels(tasks, bands, _legend(groups))
    markup = f"<div class=panels>{''.join(drawn)}</div>"
    title = f"Each task while learning, {contents.GOALS[goals]}"
    return Picture(name, title, note, markup, draw, canvas.WIDE)


def _bars(comparison: Comparison, goals: str, found: Sequence[analysis.Result]) -> Picture:
    rows = [
        [
            (task, float(r.tasks[t]), float(r.low[t]), float(r.high[t]), r.group.series)
            for t, task in enumerate(comparison.tasks)
        ]
        for r in found
    ]
    draw = figures.task_bars(comparison.tasks, rows)
    name = f"{comparison.slug}-{goals}-final"
    title = f"Final success of each task, {contents.GOALS[goals]}"
    note = "Lines are Wilson 95 % intervals over the episodes of all seeds: how well each rate is measured."
    return Picture(
        name, title, note, _both(draw, name, title), draw, canvas.WIDE, _legend([r.group for r in found])
    )


def _aggregates(comparison: Comparison, goals: str, found: Sequence[analysis.Result]) -> Picture:
    rows = []
    for r in sorted(found, key=lambda r: -r.interquartile_mean):
        low, high = r.interquartile_interval or (None, None)
        rows.append((r.group.label, r.interquartile_mean, low, high, r.group.series))
    draw = figures.intervals(rows)
    name = f"{comparison.slug}-{goals}-iqm"
    note = "IQM over runs and tasks, with its stratified bootstrap 95 % interval over seeds."
    markup = canvas.inline(draw, canvas.NARROW, name, "interquartile mean of every group")
    return Picture(name, "Interquartile mean", note, markup, draw, canvas.NARROW)


def _improvement(comparison: Comparison, goals: str, found: Sequence[analysis.Pair]) -> Picture:
    rows = []
    for pair in found:
        low, high = pair.interval or (None, None)
        rows.append(
            (f"{pair.first.label}  over  {pair.second.label}", pair.probability, low, high, pair.first.series)
        )
    draw = figures.intervals(rows, reference=0.5)
    name = f"{comparison.slug}-{goals}-improvement"
    note = "An interval that leaves out 50 % tells the two apart."
    markup = canvas.inline(draw, canvas.NARROW, name, "probability of improvement between groups")
    return Picture(name, "Probability of improvement", note, markup, draw, canvas.NARROW)


def _reference(
    comparison: Comparison, found: Sequence[analysis.Result], entries: Sequence[Published]
) -> Picture:
    rows: list[figures.Row] = []
    for r in found:
        low, high = r.mean_interval or (None, None)
        label = f"this report: {r.group.label}, {count(r.steps[1])} steps"
        rows.append((label, r.mean, low, high, r.group.series))
    for entry in entries:
        low, high = entry.success
        ends = (None, None) if low == high else (low, high)
        label = f"{entry.method}, {count(entry.steps)} steps"
        rows.append((label, (low + high) / 2, *ends, None))
    rows.sort(key=lambda row: -row[1])
    draw = figures.intervals(rows)
    name = f"{comparison.slug}-published"
    title = "Among published results"
    note = "Coloured: measured here (mean). Grey: as published, under the protocols in the table below."
    return Picture(name, title, note, _both(draw, name, title), draw, canvas.WIDE)


def _both(draw: canvas.Draw, name: str, label: str) -> str:
    wide = canvas.inline(draw, canvas.WIDE, f"{name}-w", label)
    narrow = canvas.inline(draw, canvas.NARROW, f"{name}-n", label)
    return f"<div class=wide>{wide}</div><div class=narrow>{narrow}</div>"


def _legend(groups: Sequence[analysis.Group]) -> list[tuple[str, int]]:
    return [(group.label, group.series) for group in groups]


def _names(tasks: Sequence[str]) -> str:
    if len(tasks) < 2:
        return ""
    shown = [task.removesuffix("-v3") for task in tasks[:10]]
    return f"{', '.join(shown)}{f' and {len(tasks) - 10} more' if len(tasks) > 10 else ''}."
