"""The figures of a report: what each shows, drawn with matplotlib for the page and for the files beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from mtrl.report import analysis, canvas
from mtrl.report.analysis import Band
from mtrl.report.canvas import GRID, INK, MUTED, NARROW, PANEL, WIDE, Draw, Legend, colour
from mtrl.report.published import Published
from mtrl.report.study import GOALS, Comparison, Group
from mtrl.status import count

_MOST_PANELS = 50
"""Tasks that get a panel of their own; Meta-World has no more."""

_PANEL_HEIGHT = 158


@dataclass(slots=True)
class Picture:
    """A figure of the report."""

    name: str
    """Stem of its files."""
    title: str
    note: str
    """How to read it."""
    draw: Draw
    """The drawing for the files, by its width."""
    markup: Markup
    """The drawing for the page."""
    width: int
    """Of the files, in pixels."""
    legend: Legend = ()
    """Empty where the drawing names its rows itself."""


def _wide(name: str, title: str, note: str, draw: Draw, legend: Legend = ()) -> Picture:
    """Return a figure as wide as the page, with a narrower drawing for telephones."""
    markup = Markup("<div class=wide>{}</div><div class=narrow>{}</div>").format(
        canvas.inline(draw, WIDE, f"{name}-w", title), canvas.inline(draw, NARROW, f"{name}-n", title)
    )
    return Picture(name, title, note, draw, markup, WIDE, legend)


def _narrow(name: str, title: str, note: str, draw: Draw) -> Picture:
    return Picture(name, title, note, draw, canvas.inline(draw, NARROW, name, title), NARROW)


def _legend(groups: Sequence[Group]) -> list[tuple[str, int | None]]:
    return [(group.label, group.series) for group in groups]


def curves(comparison: Comparison, goals: str, entries: Sequence[Published]) -> Picture:
    """Return mean success over environment steps, with stages of curricula and published curves."""
    groups = comparison.evaluated(goals)
    bands = [analysis.mean_band(group, goals) for group in groups]
    stages = [(group.series, starts) for group in groups if len(starts := analysis.stage_starts(group)) > 1]
    end = max(float(band.steps[-1]) for band in bands)
    # What was measured on other goals, or begins beyond the end of the axis, cannot be drawn here.
    known = [e for e in entries if e.curve and e.goals == goals and e.curve[0][0] <= end]
    note = "Mean over tasks of the deterministic policy's success; thin lines are single seeds."
    if any(band.low is not None for band in bands):
        note += " Bands are stratified bootstrap 95 % intervals of the mean."
    if any(band.whole < len(band.steps) for band in bands):
        note += " Dotted where not every seed has got that far."
    if stages:
        note += " Marks under the axis are the mean steps at which a stage of the curriculum begins."
    if known:
        note += " Dashed grey is published, under its own protocol."

    def draw(width: int) -> Figure:
        rails = 15 * len(stages)
        bottom = 46 + rails
        figure = canvas.new_figure(width, 290 + bottom)
        axes = canvas.new_axes(figure, 46, 14, 10, bottom)
        _draw_bands(axes, bands, thin=True)
        for entry in known:
            x, y = zip(*entry.curve, strict=True)
            axes.plot(x, y, color=MUTED, linestyle=(0, (2, 2)), marker="o", markersize=3, linewidth=1.1)
        canvas.percent_axis(axes.yaxis, axes.set_ylim)
        axes.set_xlabel("environment steps")
        if stages:
            axes.xaxis.set_label_coords(0.5, -(22 + rails) / 280)
            axes.tick_params(axis="x", pad=4 + rails)
            _draw_rails(axes, stages)
        return figure

    legend = [*_legend(groups), *((f"{entry.method} (published)", None) for entry in known)]
    title = f"Success while learning, {GOALS[goals]}"
    return _wide(f"{comparison.slug}-{goals}-curves", title, note, draw, legend)


def panels(comparison: Comparison, goals: str) -> Picture:
    """Return the curves of each task: a panel each on the page, all in one figure for the files."""
    groups = comparison.evaluated(goals)
    name = f"{comparison.slug}-{goals}-tasks"
    tasks = comparison.tasks[:_MOST_PANELS]
    bands = [[analysis.task_band(group, goals, i) for group in groups] for i in range(len(tasks))]
    drawn = []
    for i, (task, found) in enumerate(zip(tasks, bands, strict=True)):

        def panel(width: int, task: str = task, found: Sequence[Band] = found) -> Figure:
            figure = canvas.new_figure(width, _PANEL_HEIGHT)
            _draw_panel(canvas.new_axes(figure, 40, 12, 26, 24), task, found)
            return figure

        drawn.append(canvas.inline(panel, PANEL, f"{name}-{i}", f"success on {task} over steps"))

    def draw(width: int) -> Figure:
        columns = min(len(tasks), 4)
        lines = -(-len(tasks) // columns)
        head = 16 + 16 * len(groups)
        whole = (columns * PANEL, lines * _PANEL_HEIGHT + head)
        figure = canvas.new_figure(*whole)
        for i, (task, found) in enumerate(zip(tasks, bands, strict=True)):
            line, column = divmod(i, columns)
            left, top = column * PANEL + 40, head + line * _PANEL_HEIGHT + 26
            right, bottom = whole[0] - left - (PANEL - 52), whole[1] - top - 108
            _draw_panel(canvas.new_axes(figure, left, right, top, bottom), task, found)
        canvas.draw_legend(figure, _legend(groups))
        return figure

    note = "Mean over seeds of each task's success, with bootstrap 95 % intervals."
    markup = Markup("<div class=panels>{}</div>").format(Markup().join(drawn))
    return Picture(name, f"Each task while learning, {GOALS[goals]}", note, draw, markup, WIDE)


def final(comparison: Comparison, goals: str, results: Sequence[analysis.Result]) -> Picture:
    """Return the final success of each task as bars with intervals."""
    tasks = [_short(task) for task in comparison.tasks]

    def draw(width: int) -> Figure:
        bar = 11 if len(results) > 1 else 15
        block = bar * len(results) + 11
        figure = canvas.new_figure(width, block * len(tasks) + 36)
        axes = canvas.new_axes(figure, min(14 + 6.4 * max(map(len, tasks)), 0.46 * width), 16, 4, 28)
        for t in range(len(tasks)):
            for g, result in enumerate(results):
                y, value, tint = -t * block - g * bar, result.tasks[t], colour(result.group.series)
                ends = [result.low[t], result.high[t]]
                axes.barh(y, value, height=bar - 2.5, color=tint, alpha=0.28, linewidth=0)
                axes.plot([value, value], [y - bar / 2 + 1.2, y + bar / 2 - 1.2], color=tint, linewidth=2)
                axes.plot(ends, [y, y], color=tint, linewidth=1.3, solid_capstyle="butt", clip_on=False)
        axes.set_yticks([-t * block - (len(results) - 1) * bar / 2 for t in range(len(tasks))], tasks)
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(-len(tasks) * block + bar / 2 + 4, bar / 2 + 4)
        canvas.percent_axis(axes.xaxis, axes.set_xlim)
        return figure

    note = "Lines are Wilson 95 % intervals over the episodes of all seeds: how well each rate is measured."
    title = f"Final success of each task, {GOALS[goals]}"
    legend = _legend([result.group for result in results])
    return _wide(f"{comparison.slug}-{goals}-final", title, note, draw, legend)


def interquartile_means(comparison: Comparison, goals: str, results: Sequence[analysis.Result]) -> Picture:
    """Return the interquartile mean of every group, the best first."""
    rows = [
        _Row(r.group.label, r.interquartile_mean, r.interquartile_interval, r.group.series)
        for r in sorted(results, key=lambda r: -r.interquartile_mean)
    ]
    note = "IQM over runs and tasks, with its stratified bootstrap 95 % interval over seeds."
    return _narrow(f"{comparison.slug}-{goals}-iqm", "Interquartile mean", note, _intervals(rows))


def improvement(comparison: Comparison, goals: str, pairs: Sequence[analysis.Pair]) -> Picture:
    """Return the probability of improvement of each pair of groups."""
    rows = [
        _Row(f"{p.first.label}  over  {p.second.label}", p.probability, p.interval, p.first.series)
        for p in pairs
    ]
    note = "The two differ where the interval leaves out 50 %."
    draw = _intervals(rows, reference=0.5)
    return _narrow(f"{comparison.slug}-{goals}-improvement", "Probability of improvement", note, draw)


def reference(
    comparison: Comparison, results: Sequence[analysis.Result], entries: Sequence[Published]
) -> Picture:
    """Return our groups among published results, the best first."""
    rows = [
        _Row(
            f"this report: {r.group.label}, {count(r.steps[1])} steps",
            r.mean,
            r.mean_interval,
            r.group.series,
        )
        for r in results
    ]
    for entry in entries:
        low, high = entry.success
        ends = None if low == high else (low, high)
        rows.append(_Row(f"{entry.method}, {count(entry.steps)} steps", (low + high) / 2, ends, None))
    rows.sort(key=lambda row: -row.value)
    note = "Coloured: measured here (mean). Grey: as published, under the protocols in the table below."
    return _wide(f"{comparison.slug}-published", "Among published results", note, _intervals(rows))


@dataclass(slots=True)
class _Row:
    """A row of an interval plot; ``series`` is the group's place, None for what was published."""

    label: str
    value: float
    interval: tuple[float, float] | None
    series: int | None


def _intervals(rows: Sequence[_Row], reference: float | None = None) -> Draw:
    """Return rates with their intervals on an axis from 0 to 100 %, one row each, labelled above its line."""

    def draw(width: int) -> Figure:
        letters = int((width - 90) / 6.2)
        labels = [wrap(row.label, letters, max_lines=3, placeholder=" …") for row in rows]
        line, gap = 14, 22
        height = sum(line * len(label) + gap for label in labels)
        figure = canvas.new_figure(width, height + 32)
        axes = canvas.new_axes(figure, 12, 16, 4, 28)
        top = 0.0
        for label, row in zip(labels, rows, strict=True):
            axes.text(0, top, "\n".join(label), fontsize=10, va="top", linespacing=1.15)
            axes.text(1, top, f"{100 * row.value:.1f} %", fontsize=10, va="top", ha="right", color=MUTED)
            top -= line * len(label) + gap
            y, tint = top + gap - 7, MUTED if row.series is None else colour(row.series)
            axes.plot([0, 1], [y, y], color=GRID, linewidth=5, solid_capstyle="round", zorder=2)
            if row.interval is not None:
                bar = {"linewidth": 5, "solid_capstyle": "butt", "zorder": 3}
                axes.plot(row.interval, [y, y], color=tint, alpha=0.45, **bar)
            axes.plot([row.value], [y], "o", color=tint, markersize=7, zorder=4, clip_on=False)
            if reference is not None:
                axes.plot([reference] * 2, [y - 6, y + 6], color=MUTED, linewidth=1.2, zorder=3)
        axes.set_ylim(-height, 0)
        axes.set_yticks([])
        canvas.percent_axis(axes.xaxis, axes.set_xlim)
        axes.grid(visible=False)
        return figure

    return draw


def _draw_bands(axes: Axes, bands: Sequence[Band], thin: bool) -> None:
    for band in bands:
        tint, whole = colour(band.group.series), band.whole
        if band.low is not None:
            axes.fill_between(band.steps[:whole], band.low, band.high, color=tint, alpha=0.16, linewidth=0)
        if thin and len(band.runs) > 1:
            for steps, values in band.runs:
                axes.plot(steps, values, color=tint, alpha=0.3, linewidth=0.7)
        line = canvas.dashes(band.group.series)
        axes.plot(band.steps[:whole], band.mean[:whole], color=tint, linewidth=1.8, linestyle=line)
        if whole < len(band.steps):
            beyond = slice(whole - 1, None)
            axes.plot(band.steps[beyond], band.mean[beyond], color=tint, linewidth=1.2, linestyle=":")
        if len(band.steps) == 1:
            axes.plot(band.steps, band.mean, "o", color=tint, markersize=4)
    end = max(float(band.steps[-1]) for band in bands)
    axes.set_xlim(0, end * 1.01 or 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))


def _draw_panel(axes: Axes, task: str, bands: Sequence[Band]) -> None:
    _draw_bands(axes, bands, thin=False)
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    canvas.percent_axis(axes.yaxis, axes.set_ylim, (0, 0.5, 1))
    axes.set_title(_short(task), loc="left", fontsize=10.5, pad=7)


def _draw_rails(axes: Axes, stages: Sequence[tuple[int, Sequence[tuple[int, float]]]]) -> None:
    """Draw a rail under the axis for each curriculum, with a mark where each stage begins."""
    low, high = axes.get_xlim()
    for row, (series, starts) in enumerate(stages):
        down = ScaledTranslation(0, -(10 + 15 * row) / 72, axes.figure.dpi_scale_trans)
        at = blended_transform_factory(axes.transData, axes.transAxes) + down
        look = {"color": colour(series), "clip_on": False}
        axes.plot([low, high], [0, 0], alpha=0.35, linewidth=1, transform=at, **look)
        following = [*(step for _, step in starts[1:]), high]
        for (stage, step), end in zip(starts, following, strict=True):
            axes.plot([step], [0], "|", markersize=8, transform=at, **look)
            if end - step > 0.03 * (high - low):
                shift = ScaledTranslation(3 / 72, 0, axes.figure.dpi_scale_trans)
                axes.text(step, 0, str(stage), transform=at + shift, fontsize=8.5, va="bottom", **look)


def _short(task: str) -> str:
    return task.removesuffix("-v3")
