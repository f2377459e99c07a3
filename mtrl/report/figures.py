"""The drawings of a report, with matplotlib. Each is a function of the width in pixels, drawn when needed."""

from collections.abc import Sequence
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from mtrl.report.analysis import Band
from mtrl.report.canvas import (
    GRID,
    INK,
    MUTED,
    PANEL,
    Draw,
    Legend,
    colour,
    dashes,
    draw_legend,
    new_axes,
    new_figure,
    percent_axis,
)
from mtrl.status import count

Row = tuple[str, float, float | None, float | None, int | None]
"""A row of an interval plot: label, value, ends of its interval, the group's place."""


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
        figure = new_figure(width, 290 + bottom)
        axes = new_axes(figure, 46, 14, top, bottom)
        _draw_bands(axes, bands, thin=True)
        for points in published:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=MUTED, linestyle=(0, (2, 2)), marker="o", markersize=3, linewidth=1.1)
        percent_axis(axes.yaxis, axes.set_ylim)
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
        figure = new_figure(width, 158)
        axes = new_axes(figure, 40, 12, 26, 24)
        _draw_panel(axes, title, bands)
        return figure

    return draw


def panels(titles: Sequence[str], bands: Sequence[Sequence[Band]], legend: Legend) -> Draw:
    """Return all tasks' panels as one figure, for the files."""

    def draw(width: int) -> Figure:
        columns = min(len(titles), 4)
        lines = -(-len(titles) // columns)
        head = 16 + 16 * len(legend)
        figure = new_figure(columns * PANEL, lines * 158 + head)
        size = figure.get_size_inches() * 72
        for index, (title, found) in enumerate(zip(titles, bands, strict=True)):
            line, column = divmod(index, columns)
            left, top = column * PANEL + 40, head + line * 158 + 26
            box = (left / size[0], 1 - (top + 108) / size[1], (PANEL - 52) / size[0], 108 / size[1])
            axes = figure.add_axes(box)
            _draw_panel(axes, title, found)
        draw_legend(figure, legend)
        return figure

    return draw


def intervals(rows: Sequence[Row], reference: float | None = None) -> Draw:
    """Return rates with their intervals on an axis from 0 to 100 %, one row each, labelled above its line."""

    def draw(width: int) -> Figure:
        letters = int((width - 90) / 6.2)
        labels = [wrap(row[0], letters, max_lines=3, placeholder=" …") for row in rows]
        line, gap = 14, 22
        height = sum(line * len(label) + gap for label in labels)
        figure = new_figure(width, height + 32)
        axes = new_axes(figure, 12, 16, 4, 28)
        y = 0.0
        for label, (_, value, low, high, series) in zip(labels, rows, strict=True):
            axes.text(0, y, "\n".join(label), fontsize=10, va="top", linespacing=1.15)
            axes.text(1, y, f"{100 * value:.1f} %", fontsize=10, va="top", ha="right", color=MUTED)
            y -= line * len(label) + gap
            _dot(axes, y + gap - 7, value, low, high, MUTED if series is None else colour(series))
            if reference is not None:
                mark = [y + gap - 13, y + gap - 1]
                axes.plot([reference] * 2, mark, color=MUTED, linewidth=1.2, zorder=3)
        axes.set_ylim(-height, 0)
        axes.set_yticks([])
        percent_axis(axes.xaxis, axes.set_xlim)
        axes.grid(visible=False)
        return figure

    return draw


def task_bars(tasks: Sequence[str], rows: Sequence[Sequence[Row]]) -> Draw:
    """Return final success per task as bars with intervals; ``rows[g][t]`` is group g on task t."""

    def draw(width: int) -> Figure:
        bar = 11 if len(rows) > 1 else 15
        block = bar * len(rows) + 11
        figure = new_figure(width, block * len(tasks) + 36)
        longest = max(len(_short(task)) for task in tasks)
        axes = new_axes(figure, min(14 + 6.4 * longest, 0.46 * width), 16, 4, 28)
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
        percent_axis(axes.xaxis, axes.set_xlim)
        return figure

    return draw


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
    percent_axis(axes.yaxis, axes.set_ylim, (0, 0.5, 1))
    axes.set_title(_short(title), loc="left", fontsize=10.5, pad=7)


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
