"""The drawings of a report, with matplotlib: once as files, once inlined with the page's own colours."""

import io
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from mtrl.report.analysis import Band
from mtrl.status import count

SERIES = ("#2563b0", "#d1600a", "#2f855a", "#7c4dbb", "#c02f52", "#0f8a99", "#8a6a1f", "#5b6472")
"""Colours of the groups on white; beyond the eighth they repeat with dashed lines."""

INK, MUTED, GRID = "#1c2532", "#5d6878", "#dfe3e9"

_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid"} | {hexa: f"s{i}" for i, hexa in enumerate(SERIES)}

WIDE, NARROW, PANEL = 860, 350, 232
"""Widths in pixels: of a figure on a desktop, on a telephone, and of one task's panel."""

_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "mtrl",
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10.5,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.spines.bottom": False,
    "axes.unicode_minus": False,
    "axes.axisbelow": True,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "savefig.facecolor": "white",
}

_QUARTERS = (0, 0.25, 0.5, 0.75, 1)

Draw = Callable[[int], Figure]
"""A drawing by its width in pixels."""

Legend = Sequence[tuple[str, int | None]]
"""Label and place of each group; None stands for what was published."""

Row = tuple[str, float, float | None, float | None, int | None]
"""A row of an interval plot: label, value, ends of its interval, the group's place."""


def style() -> AbstractContextManager:
    """Return the context in which every figure of a report is drawn."""
    return matplotlib.rc_context(_STYLE)


def colour(series: int) -> str:
    """Return the colour of a group."""
    return SERIES[series % len(SERIES)]


def dashes(series: int) -> str | tuple[int, tuple[float, ...]]:
    """Return the line style of a group: solid for the first eight."""
    return ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))[series // len(SERIES) % 4]


def curves(
    bands: Sequence[Band],
    stages: Sequence[tuple[int, Sequence[tuple[int, float]]]] = (),
    published: Sequence[Sequence[tuple[float, float]]] = (),
) -> Draw:
    """Return the drawing of mean success over steps.

    Args:
        bands: One per group.
        stages: (group's place, [(stage, step)]) of groups with a curriculum, drawn as rails under the axis.
        published: Points of published curves.
    """

    def draw(width: int) -> Figure:
        rails = 15 * len(stages)
        top, bottom = 10, 46 + rails
        figure = _figure(width, 290 + bottom)
        axes = _axes(figure, 46, 14, top, bottom)
        _draw_bands(axes, bands, thin=True)
        for points in published:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=MUTED, linestyle=(0, (2, 2)), marker="o", markersize=3, linewidth=1.1)
        _percent_axis(axes.yaxis, axes.set_ylim)
        axes.set_xlabel("environment steps")
        if stages:
            axes.xaxis.set_label_coords(0.5, -(22 + rails) / 280)
            axes.tick_params(axis="x", pad=4 + rails)
            _rails(axes, stages)
        return figure

    return draw


def panel(title: str, bands: Sequence[Band]) -> Draw:
    """Return the small drawing of one task's curves."""

    def draw(width: int) -> Figure:
        figure = _figure(width, 158)
        axes = _axes(figure, 40, 12, 26, 24)
        _draw_panel(axes, title, bands)
        return figure

    return draw


def panels(titles: Sequence[str], bands: Sequence[Sequence[Band]], legend: Legend) -> Draw:
    """Return all tasks' panels as one figure, for the files."""

    def draw(width: int) -> Figure:
        columns = min(len(titles), 4)
        lines = -(-len(titles) // columns)
        head = 16 + 16 * len(legend)
        figure = _figure(columns * PANEL, lines * 158 + head)
        size = figure.get_size_inches() * 72
        for index, (title, found) in enumerate(zip(titles, bands, strict=True)):
            line, column = divmod(index, columns)
            left, top = column * PANEL + 40, head + line * 158 + 26
            box = (left / size[0], 1 - (top + 108) / size[1], (PANEL - 52) / size[0], 108 / size[1])
            axes = figure.add_axes(box)
            _draw_panel(axes, title, found)
        _legend(figure, legend)
        return figure

    return draw


def intervals(rows: Sequence[Row], labels: str = "above", reference: float | None = None) -> Draw:
    """Return rates with their intervals on an axis from 0 to 100 %, one row each, labelled above its line."""

    def draw(width: int) -> Figure:
        height = 36
        figure = _figure(width, height * len(rows) + 34)
        axes = _axes(figure, 12, 16, 6, 28)
        for index, (label, value, low, high, series) in enumerate(rows):
            y = -index - 0.22
            tint = MUTED if series is None else colour(series)
            _dot(axes, y, value, low, high, tint)
            width_left = int((width - 90) / 5.9)
            text = label if len(label) <= width_left else label[: width_left - 1] + "…"
            axes.text(0, y + 0.42, text, fontsize=10, va="center", clip_on=False)
            axes.text(
                1,
                y + 0.42,
                f"{100 * value:.1f} %",
                fontsize=10,
                va="center",
                ha="right",
                color=MUTED,
                clip_on=False,
            )
            if reference is not None:
                axes.plot([reference] * 2, [y - 0.17, y + 0.17], color=MUTED, linewidth=1.2, zorder=3)
        axes.set_ylim(-len(rows) + 0.4, 0.5)
        axes.set_yticks([])
        _percent_axis(axes.xaxis, axes.set_xlim)
        axes.grid(visible=False)
        return figure

    return draw


def task_bars(tasks: Sequence[str], rows: Sequence[Sequence[Row]]) -> Draw:
    """Return final success per task as bars with intervals; ``rows[g][t]`` is group g on task t."""

    def draw(width: int) -> Figure:
        bar = 11 if len(rows) > 1 else 15
        block = bar * len(rows) + 11
        figure = _figure(width, block * len(tasks) + 36)
        longest = max(len(_short(task)) for task in tasks)
        axes = _axes(figure, min(14 + 6.4 * longest, 0.46 * width), 16, 4, 28)
        for t in range(len(tasks)):
            for g, group in enumerate(rows):
                _, value, low, high, series = group[t]
                y = -t * block - g * bar
                tint = MUTED if series is None else colour(series)
                axes.barh(y, value, height=bar - 2.5, color=tint, alpha=0.28, linewidth=0)
                axes.plot([value, value], [y - bar / 2 + 1.2, y + bar / 2 - 1.2], color=tint, linewidth=2)
                axes.plot(
                    [low, high], [y, y], color=tint, linewidth=1.3, solid_capstyle="butt", clip_on=False
                )
        middle = [-t * block - (len(rows) - 1) * bar / 2 for t in range(len(tasks))]
        axes.set_yticks(middle, [_short(task) for task in tasks])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(-len(tasks) * block + bar / 2 + 4, bar / 2 + 4)
        _percent_axis(axes.xaxis, axes.set_xlim)
        return figure

    return draw


def inline(draw: Draw, width: int, key: str, label: str) -> str:
    """Return a drawing as SVG for the page: its colours are the page's variables, its ids its own."""
    text = _svg(draw(width), transparent=True)
    text = text[text.index("<svg") :]
    # A tenth of a pixel is enough for the eye and a third of the bytes.
    text = re.sub(r"(\d\.\d\d)\d+", r"\1", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for value, name in _VARIABLES.items():
        text = text.replace(value, f"var(--{name})")
    text = re.sub(r"(\bid=\"|url\(#|href=\"#)", rf"\g<1>{key}-", text)
    text = text.replace("'DejaVu Sans'", "var(--font)")
    most = width * (1.25 if width >= WIDE else 1.6)
    size = f'<svg class="chart" role="img" aria-label="{_attribute(label)}" style="max-width:{most:.0f}px"'
    text = re.sub(r"<svg", lambda _: size, text, count=1)
    head, rest = text.split(">", 1)
    return re.sub(r' (?:width|height)="[\d.]+pt"', "", head) + ">" + rest


def save(draw: Draw, width: int, stem: str, legend: Legend = ()) -> None:
    """Write a drawing as ``stem``.svg and ``stem``.png, on white and with its legend."""
    figure = draw(width)
    if legend:
        _with_legend(figure, legend)
    figure.savefig(f"{stem}.svg", metadata={"Date": None, "Creator": None})
    figure.savefig(f"{stem}.png", dpi=144, metadata={"Software": None})


def _svg(figure: Figure, transparent: bool) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=transparent, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width / 72, height / 72))


def _axes(figure: Figure, left: float, right: float, top: float, bottom: float) -> Axes:
    width, height = figure.get_size_inches() * 72
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    return figure.add_axes(box)


def _with_legend(figure: Figure, legend: Legend) -> None:
    width, height = figure.get_size_inches() * 72
    extra = 12 + 16 * len(legend)
    boxes = [(axes, axes.get_position()) for axes in figure.axes]
    figure.set_size_inches(width / 72, (height + extra) / 72)
    share = height / (height + extra)
    for axes, box in boxes:
        axes.set_position((box.x0, box.y0 * share, box.width, box.height * share))
    _legend(figure, legend)


def _legend(figure: Figure, legend: Legend) -> None:
    width, height = figure.get_size_inches() * 72
    for index, (label, series) in enumerate(legend):
        y = 1 - (14 + 16 * index) / height
        line = Line2D([12 / width, 34 / width], [y, y], color=MUTED, linewidth=1.2, linestyle=(0, (2, 2)))
        if series is not None:
            line.set(color=colour(series), linewidth=2, linestyle=dashes(series))
        figure.add_artist(line)
        figure.text(40 / width, y, label, va="center", fontsize=10.5)


def _draw_bands(axes: Axes, bands: Sequence[Band], thin: bool) -> None:
    for band in bands:
        tint, line = colour(band.group.series), dashes(band.group.series)
        whole = band.whole
        if band.low is not None:
            axes.fill_between(band.steps[:whole], band.low, band.high, color=tint, alpha=0.16, linewidth=0)
        if thin and len(band.runs) > 1:
            for steps, values in band.runs:
                axes.plot(steps, values, color=tint, alpha=0.3, linewidth=0.7)
        axes.plot(band.steps[:whole], band.mean[:whole], color=tint, linewidth=1.8, linestyle=line)
        if whole < len(band.steps):
            axes.plot(
                band.steps[whole - 1 :], band.mean[whole - 1 :], color=tint, linewidth=1.2, linestyle=":"
            )
        if len(band.steps) == 1:
            axes.plot(band.steps, band.mean, "o", color=tint, markersize=4)
    end = max(float(band.steps[-1]) for band in bands)
    axes.set_xlim(0, end * 1.01 or 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))


def _draw_panel(axes: Axes, title: str, bands: Sequence[Band]) -> None:
    _draw_bands(axes, bands, thin=False)
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    _percent_axis(axes.yaxis, axes.set_ylim, (0, 0.5, 1))
    axes.set_title(_short(title), loc="left", fontsize=10.5, pad=7)


def _percent_axis(axis: Axis, limits: Callable, ticks: Sequence[float] = _QUARTERS) -> None:
    limits(-0.012, 1.012)
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axis.grid(visible=True)


def _rails(axes: Axes, stages: Sequence[tuple[int, Sequence[tuple[int, float]]]]) -> None:
    """Draw a rail under the axis for each curriculum, with a mark where each stage begins."""
    low, high = axes.get_xlim()
    for row, (series, starts) in enumerate(stages):
        down = ScaledTranslation(0, -(10 + 15 * row) / 72, axes.figure.dpi_scale_trans)
        at = blended_transform_factory(axes.transData, axes.transAxes) + down
        axes.plot(
            [low, high], [0, 0], color=colour(series), alpha=0.35, linewidth=1, transform=at, clip_on=False
        )
        for index, (stage, step) in enumerate(starts):
            axes.plot([step], [0], "|", color=colour(series), markersize=8, transform=at, clip_on=False)
            following = starts[index + 1][1] if index + 1 < len(starts) else high
            if following - step > 0.03 * (high - low):
                shift = ScaledTranslation(3 / 72, 0, axes.figure.dpi_scale_trans)
                look = {"fontsize": 8.5, "color": colour(series), "va": "bottom", "clip_on": False}
                axes.text(step, 0, str(stage), transform=at + shift, **look)


def _dot(axes: Axes, y: float, value: float, low: float | None, high: float | None, tint: str) -> None:
    axes.plot([0, 1], [y, y], color=GRID, linewidth=5, solid_capstyle="round", zorder=2)
    if low is not None and high is not None:
        axes.plot([low, high], [y, y], color=tint, alpha=0.45, linewidth=5, solid_capstyle="butt", zorder=3)
    axes.plot([value], [y], "o", color=tint, markersize=7, zorder=4, clip_on=False)


def _short(task: str) -> str:
    return task.removesuffix("-v3")


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
