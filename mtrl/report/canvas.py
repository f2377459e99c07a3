"""What all drawings share: colours, sizes, axes, legends, and how they become files or part of a page."""

import io
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

SERIES = ("#2563b0", "#d1600a", "#2f855a", "#7c4dbb", "#c02f52", "#0f8a99", "#8a6a1f", "#5b6472")
"""Colours of the groups on white; beyond the eighth they repeat with dashed lines."""

INK, MUTED, GRID = "#1c2532", "#5d6878", "#dfe3e9"

_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid"} | {hexa: f"s{i}" for i, hexa in enumerate(SERIES)}

WIDE, NARROW, PANEL = 860, 350, 232
"""Widths in pixels: of a figure on a desktop, on a telephone, and of one task's panel."""

_STYLE = Path(__file__).with_name("report.mplstyle")

_NO_DATE = {"Date": None, "Creator": None}
"""Equal logs give equal files."""

Draw = Callable[[int], Figure]
"""A drawing by its width in pixels."""

Legend = Sequence[tuple[str, int | None]]
"""Label and place of each group; None stands for what was published."""


def style() -> AbstractContextManager:
    """Return the context in which every figure of a report is drawn."""
    return matplotlib.rc_context(fname=_STYLE)


def colour(series: int) -> str:
    """Return the colour of a group."""
    return SERIES[series % len(SERIES)]


def dashes(series: int) -> str | tuple[int, tuple[float, ...]]:
    """Return the line style of a group: solid for the first eight."""
    return ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))[series // len(SERIES) % 4]


def inline(draw: Draw, width: int, key: str, label: str) -> Markup:
    """Return a drawing as SVG for the page: its colours are the page's variables, its ids its own."""
    out = io.StringIO()
    draw(width).savefig(out, format="svg", transparent=True, metadata=_NO_DATE)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Tags alone: what stands between them are people's words, such as gamma=0.985.
    text = re.sub(r"<[^>]*>", lambda tag: _for_page(tag[0], key), text)
    text = text.replace("'DejaVu Sans'", "var(--font)")
    most = width * (1.25 if width >= WIDE else 1.6)
    size = f'<svg class="chart" role="img" aria-label="{escape(label)}" style="max-width:{most:.0f}px"'
    head, rest = text.removeprefix("<svg").split(">", 1)
    return Markup(size + re.sub(r' (?:width|height)="[\d.]+pt"', "", head) + ">" + rest)


def _for_page(tag: str, key: str) -> str:
    # A hundredth of a pixel is enough for the eye, and a third of the bytes.
    tag = re.sub(r"(\d\.\d\d)\d+", r"\1", tag)
    for value, name in _VARIABLES.items():
        tag = tag.replace(value, f"var(--{name})")
    return re.sub(r"(\bid=\"|url\(#|href=\"#)", rf"\g<1>{key}-", tag)


def save(draw: Draw, width: int, stem: str, legend: Legend = ()) -> None:
    """Write a drawing as ``stem``.svg and ``stem``.png, on white and with its legend."""
    figure = draw(width)
    if legend:
        _add_legend(figure, legend)
    figure.savefig(f"{stem}.svg", metadata=_NO_DATE)
    figure.savefig(f"{stem}.png", dpi=144, metadata={"Software": None})


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in pixels."""
    return Figure(figsize=(width / 72, height / 72))


def new_axes(figure: Figure, left: float, right: float, top: float, bottom: float) -> Axes:
    """Return axes with these margins in pixels."""
    width, height = figure.get_size_inches() * 72
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    return figure.add_axes(box)


def _add_legend(figure: Figure, legend: Legend) -> None:
    width, height = figure.get_size_inches() * 72
    extra = 12 + 16 * len(legend)
    boxes = [(axes, axes.get_position()) for axes in figure.axes]
    figure.set_size_inches(width / 72, (height + extra) / 72)
    share = height / (height + extra)
    for axes, box in boxes:
        axes.set_position((box.x0, box.y0 * share, box.width, box.height * share))
    draw_legend(figure, legend)


def draw_legend(figure: Figure, legend: Legend) -> None:
    """Draw a legend, one line a group, at the top of a figure."""
    width, height = figure.get_size_inches() * 72
    for index, (label, series) in enumerate(legend):
        y = 1 - (14 + 16 * index) / height
        line = Line2D([12 / width, 34 / width], [y, y], color=MUTED, linewidth=1.2, linestyle=(0, (2, 2)))
        if series is not None:
            line.set(color=colour(series), linewidth=2, linestyle=dashes(series))
        figure.add_artist(line)
        figure.text(40 / width, y, label, va="center", fontsize=10.5)


def percent_axis(axis: Axis, limits: Callable, ticks: Sequence[float] = (0, 0.25, 0.5, 0.75, 1)) -> None:
    """Make an axis one of rates, from 0 to 100 %."""
    limits(-0.012, 1.012)
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axis.grid(visible=True)
