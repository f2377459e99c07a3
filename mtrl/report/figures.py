"""The figures of a report: what each shows, drawn with matplotlib for the page and for the files beside it."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox, ScaledTranslation, blended_transform_factory

from mtrl.report import analysis
from mtrl.report.analysis import Band, Pair, Result
from mtrl.report.study import Comparison, Group
from mtrl.report.tables import Piece, Published
from mtrl.status import count
from mtrl.text import printable

STYLE = Path(__file__).with_name("report.mplstyle")
"""What every figure of a report is drawn with."""

# Colours of the groups on white; beyond the eighth they repeat with dashed lines.
_SERIES = ("#2563b0", "#d1600a", "#2f855a", "#7c4dbb", "#c02f52", "#0f8a99", "#8a6a1f", "#5b6472")
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
_INK, _MUTED, _GRID = "#1c2532", "#5d6878", "#dfe3e9"
# Colours of the drawings and the page's variables for them.
_VARIABLES = {_INK: "ink", _MUTED: "muted", _GRID: "grid"} | {tint: f"s{i}" for i, tint in enumerate(_SERIES)}
# Pixels: widths of a figure on a desktop and on a telephone, width and height of one task's panel.
_WIDE, _NARROW, _PANEL, _PANEL_HEIGHT = 860, 350, 232, 158
_Draw = Callable[[int], Figure]  # By its width in pixels.
# Label, value, interval and series of a row in a plot of intervals; the series is None for what was published.
_Row = tuple[str, float, Sequence[float] | None, int | None]


class Picture(Piece):
    """A figure of the report; what is as wide as the page has a narrower drawing for telephones.

    ``groups`` stand in the ``legend``, none where the drawing names its rows; ``panels`` are drawings of single tasks
    for the page, which arranges them as it has room. ``drawings`` stand on the page, by CSS class.
    """

    def __init__(
        self,
        kind: str,
        comparison: Comparison,
        goals: str | None,
        draw: _Draw,
        groups: Sequence[Group] = (),
        width: int = _WIDE,
        panels: Mapping[str, _Draw] | None = None,
    ) -> None:
        super().__init__(f"{kind} figure", comparison, goals)
        self.legend: list[tuple[str, int | None]] = [(group.label, group.series) for group in groups]
        self._draw, self._width = draw, width
        self.drawings: dict[str, Markup] = {}
        for index, (task, panel) in enumerate((panels or {}).items()):
            drawn = _inline(panel, _PANEL, f"{self.name}-{index}", f"success on {task} over steps")
            self.drawings["panels"] = self.drawings.get("panels", Markup()) + drawn
        sizes = {"wide": _WIDE, "narrow": _NARROW} if width == _WIDE else {"": width}
        for css, size in {}.items() if panels else sizes.items():
            self.drawings[css] = _inline(draw, size, f"{self.name}-{size}", self.title)

    def files(self) -> dict[str, bytes]:
        """Return the figure on white and with the legend above, by the names of its files."""
        figure = self._draw(self._width)
        width, height = figure.get_size_inches() * 72
        for line, (label, series) in enumerate(reversed(self.legend)):
            y = 1 + (10 + 16 * line) / height
            figure.add_artist(Line2D([12 / width, 34 / width], [y, y], linewidth=2, **_look(series)))
            figure.text(40 / width, y, label, va="center", fontsize=10.5)
        head = 8 + 16 * len(self.legend) if self.legend else 0
        whole = Bbox.from_extents(0, 0, width / 72, (height + head) / 72)
        files = {f"figures/{self.name}.{form}": io.BytesIO() for form in ("png", "svg")}
        for name, file in files.items():
            form = name.rpartition(".")[2]
            figure.savefig(file, format=form, bbox_inches=whole, dpi=144, metadata={"Date": None})
        return {name: file.getvalue() for name, file in files.items()}


def _inline(draw: _Draw, width: int, key: str, label: str) -> Markup:
    """Return a drawing as SVG for the page: its colours are the page's variables, its ids its own."""
    out = io.StringIO()
    draw(width).savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>", "", out.getvalue(), flags=re.DOTALL)

    def for_page(match: re.Match[str]) -> str:
        # A hundredth of a pixel is enough for the eye, and a third of the bytes.
        tag = re.sub(r"(\d\.\d\d)\d+", r"\1", match[0])
        for value, name in _VARIABLES.items():
            tag = tag.replace(value, f"var(--{name})")
        return re.sub(r"(\bid=\"|url\(#|href=\"#)", rf"\g<1>{key}-", tag)

    # Tags alone: what stands between them are people's words, such as gamma=0.985.
    text = re.sub(r"<[^>]*>", for_page, text).replace("'DejaVu Sans'", "var(--font)")
    most = width * (1.25 if width >= _WIDE else 1.6)
    size = f'<svg class="chart" role="img" aria-label="{escape(printable(label))}" style="max-width:{most:.0f}px"'
    head, rest = text.removeprefix("<svg").split(">", 1)
    return Markup(size + re.sub(r' (?:width|height)="[\d.]+pt"', "", head) + ">" + rest)


def curves(comparison: Comparison, goals: str, entries: Sequence[Published]) -> Picture:
    """Return mean success over environment steps, with stages of curricula and published curves."""
    groups = comparison.evaluated(goals)
    bands = [Band(group, goals) for group in groups]
    stages = [(group.series, starts) for group in groups if len(starts := analysis.stage_starts(group)) > 1]
    end = max(float(band.steps[-1]) for band in bands)
    # What was measured on other goals, or begins beyond the end of the axis, cannot be drawn here.
    known = [e for e in entries if e.curve and e.goals == goals and e.curve[0][0] <= end]

    def draw(width: int) -> Figure:
        rails = 15 * len(stages)
        figure = Figure((width / 72, (336 + rails) / 72))
        axes = _axes(figure, 46, 10, width - 60, 280)
        _draw_bands(axes, bands, thin=True)
        for entry in known:
            axes.plot(*zip(*entry.curve, strict=True), marker="o", markersize=3, linewidth=1.1, **_look(None))
        _percent_axis(axes.yaxis, axes.set_ylim)
        axes.set_xlabel("environment steps")
        if stages:
            axes.xaxis.set_label_coords(0.5, -(22 + rails) / 280)
            axes.tick_params(axis="x", pad=4 + rails)
            _draw_rails(axes, stages)
        return figure

    picture = Picture("curves", comparison, goals, draw, groups)
    picture.legend += [(f"{entry.method} (published)", None) for entry in known]
    if any(band.low is not None for band in bands):
        picture.note += " Bands are stratified bootstrap 95 % intervals of the mean."
    if any(band.whole < len(band.steps) for band in bands):
        picture.note += " Dotted where not every seed has got that far."
    if stages:
        picture.note += " Marks under the axis are the mean steps at which a stage of the curriculum begins."
    if known:
        picture.note += " Dashed grey is published, under its own protocol."
    return picture


def panels(comparison: Comparison, goals: str) -> Picture:
    """Return the curves of each task: a panel each on the page, all in one figure for the files."""
    groups = comparison.evaluated(goals)
    bands = {
        task: [Band(group, goals, index) for group in groups] for index, task in enumerate(comparison.tasks)
    }
    draw, width = partial(_draw_panels, bands), _PANEL * min(len(bands), 4)
    panels = {task: partial(_draw_panels, {task: found}) for task, found in bands.items()}
    return Picture("tasks", comparison, goals, draw, groups, width, panels)


def _draw_panels(bands: Mapping[str, Sequence[Band]], width: int) -> Figure:
    columns = width // _PANEL
    figure = Figure((width / 72, -(-len(bands) // columns) * _PANEL_HEIGHT / 72))
    for index, (task, found) in enumerate(bands.items()):
        line, column = divmod(index, columns)
        axes = _axes(figure, column * _PANEL + 40, line * _PANEL_HEIGHT + 26, _PANEL - 52, _PANEL_HEIGHT - 50)
        _draw_bands(axes, found, thin=False)
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        _percent_axis(axes.yaxis, axes.set_ylim, (0, 0.5, 1))
        axes.set_title(printable(task.removesuffix("-v3")), loc="left", fontsize=10.5, pad=7)
    return figure


def final(comparison: Comparison, goals: str, results: Sequence[Result]) -> Picture:
    """Return the final success of each task as bars with intervals."""
    tasks = [printable(task.removesuffix("-v3")) for task in comparison.tasks]

    def draw(width: int) -> Figure:
        bar = 11 if len(results) > 1 else 15
        block = bar * len(results) + 11
        figure = Figure((width / 72, (block * len(tasks) + 36) / 72))
        left = min(14 + 6.4 * max(map(len, tasks)), 0.46 * width)
        axes = _axes(figure, left, 4, width - left - 16, block * len(tasks) + 4)
        for g, result in enumerate(results):
            y, tint = -np.arange(len(tasks)) * block - g * bar, _colour(result.group.series)
            axes.barh(y, result.tasks, height=bar - 2.5, color=tint, alpha=0.28, linewidth=0)
            axes.vlines(result.tasks, y - bar / 2 + 1.2, y + bar / 2 - 1.2, color=tint, linewidth=2)
            axes.hlines(y, result.low, result.high, color=tint, linewidth=1.3, clip_on=False)
        axes.set_yticks([-t * block - (len(results) - 1) * bar / 2 for t in range(len(tasks))], tasks)
        axes.tick_params(axis="y", labelcolor=_INK)
        axes.set_ylim(-len(tasks) * block + bar / 2 + 4, bar / 2 + 4)
        _percent_axis(axes.xaxis, axes.set_xlim)
        return figure

    return Picture("final", comparison, goals, draw, [result.group for result in results])


def interquartile_means(comparison: Comparison, goals: str, results: Sequence[Result]) -> Picture:
    """Return the interquartile mean of every group, the best first."""
    rows = [(r.group.label, r.interquartile_mean, r.interquartile_interval, r.group.series) for r in results]
    draw = partial(_draw_intervals, sorted(rows, key=lambda row: -row[1]))
    return Picture("iqm", comparison, goals, draw, width=_NARROW)


def improvement(comparison: Comparison, goals: str, pairs: Sequence[Pair]) -> Picture:
    """Return the probability of improvement of each pair of groups."""
    rows = [
        (f"{p.first.label}  over  {p.second.label}", p.probability, p.interval, p.first.series) for p in pairs
    ]
    draw = partial(_draw_intervals, rows, reference=0.5)
    return Picture("improvement", comparison, goals, draw, width=_NARROW)


def reference(comparison: Comparison, results: Sequence[Result], entries: Sequence[Published]) -> Picture:
    """Return our groups among published results, the best first."""
    rows: list[_Row] = []
    for r in results:
        label = f"this report: {r.group.label}, {count(r.steps[1])} steps"
        rows.append((label, r.mean, r.mean_interval, r.group.series))
    for entry in entries:
        low, high = entry.success
        ends = None if low == high else entry.success
        rows.append((f"{entry.method}, {count(entry.steps)} steps", (low + high) / 2, ends, None))
    draw = partial(_draw_intervals, sorted(rows, key=lambda row: -row[1]))
    return Picture("published", comparison, None, draw)


def _draw_intervals(rows: Sequence[_Row], width: int, reference: float | None = None) -> Figure:
    """Return rates with their intervals on an axis from 0 to 100 %, one row each, labelled above its line."""
    letters = int((width - 90) / 6.2)
    labels, line, gap = [wrap(row[0], letters, max_lines=3, placeholder=" …") for row in rows], 14, 22
    height = sum(line * len(label) + gap for label in labels)
    figure = Figure((width / 72, (height + 32) / 72))
    axes = _axes(figure, 12, 4, width - 28, height)
    top = 0.0
    for label, (_, value, interval, series) in zip(labels, rows, strict=True):
        axes.text(0, top, "\n".join(label), fontsize=10, va="top", linespacing=1.15)
        axes.text(1, top, f"{100 * value:.1f} %", fontsize=10, va="top", ha="right", color=_MUTED)
        top -= line * len(label) + gap
        y, tint = top + gap - 7, _colour(series)
        axes.plot([0, 1], [y, y], color=_GRID, linewidth=5, solid_capstyle="round", zorder=2)
        if interval is not None:
            look = {"linewidth": 5, "solid_capstyle": "butt", "zorder": 3}
            axes.plot(interval, [y, y], color=tint, alpha=0.45, **look)
        axes.plot([value], [y], "o", color=tint, markersize=7, zorder=4, clip_on=False)
        if reference is not None:
            axes.plot([reference] * 2, [y - 6, y + 6], color=_MUTED, linewidth=1.2, zorder=3)
    axes.set(ylim=(-height, 0), yticks=[])
    _percent_axis(axes.xaxis, axes.set_xlim)
    axes.grid(visible=False)
    return figure


def _draw_bands(axes: Axes, bands: Sequence[Band], thin: bool) -> None:
    for band in bands:
        tint, whole = _colour(band.group.series), band.whole
        if band.low is not None:
            axes.fill_between(band.steps[:whole], band.low, band.high, color=tint, alpha=0.16, linewidth=0)
        if thin and len(band.runs) > 1:
            for steps, values in band.runs:
                axes.plot(steps, values, color=tint, alpha=0.3, linewidth=0.7)
        axes.plot(band.steps[:whole], band.mean[:whole], linewidth=1.8, **_look(band.group.series))
        if whole < len(band.steps):
            beyond = slice(whole - 1, None)
            axes.plot(band.steps[beyond], band.mean[beyond], color=tint, linewidth=1.2, linestyle=":")
        if len(band.steps) == 1:
            axes.plot(band.steps, band.mean, "o", color=tint, markersize=4)
    end = max(float(band.steps[-1]) for band in bands)
    axes.set_xlim(0, end * 1.01 or 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))


def _draw_rails(axes: Axes, stages: Sequence[tuple[int, Sequence[tuple[int, float]]]]) -> None:
    """Draw a rail under the axis for each curriculum, with a mark where each stage begins."""
    low, high = axes.get_xlim()
    for row, (series, starts) in enumerate(stages):
        down = ScaledTranslation(0, -(10 + 15 * row) / 72, axes.figure.dpi_scale_trans)
        at = blended_transform_factory(axes.transData, axes.transAxes) + down
        look = {"color": _colour(series), "clip_on": False}
        axes.plot([low, high], [0, 0], alpha=0.35, linewidth=1, transform=at, **look)
        following = [*(step for _, step in starts[1:]), high]
        for (stage, step), end in zip(starts, following, strict=True):
            axes.plot([step], [0], "|", markersize=8, transform=at, **look)
            if end - step > 0.03 * (high - low):
                shift = ScaledTranslation(3 / 72, 0, axes.figure.dpi_scale_trans)
                axes.text(step, 0, str(stage), transform=at + shift, fontsize=8.5, va="bottom", **look)


def _colour(series: int | None) -> str:
    return _MUTED if series is None else _SERIES[series % len(_SERIES)]


def _look(series: int | None) -> dict[str, Any]:
    """Return colour and dashes of a group's line, or of a published one."""
    dashes = (0, (2, 2)) if series is None else _DASHES[series // len(_SERIES) % len(_DASHES)]
    return {"color": _colour(series), "linestyle": dashes}


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Return axes in this box, in pixels from the upper left corner."""
    whole, full = figure.get_size_inches() * 72
    return figure.add_axes((left / whole, 1 - (top + height) / full, width / whole, height / full))


def _percent_axis(axis: Axis, limits: Callable, ticks: Sequence[float] = (0, 0.25, 0.5, 0.75, 1)) -> None:
    """Make an axis one of rates, from 0 to 100 %."""
    limits(-0.012, 1.012)
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axis.grid(visible=True)
