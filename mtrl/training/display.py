"""What a person sees while a run trains: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Task as RichTask
from rich.table import Table
from rich.text import Text

from mtrl.evaluation.protocol import Evaluation

_LINE_EVERY = 15.0
"""Seconds between plain lines."""
_REDRAW_EVERY = 0.2
"""Seconds between updates of the bar."""


class _Speed(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        speed = task.speed
        return Text("" if speed is None else f"{speed:,.0f} steps/s")


class _Bar(Progress):
    """A bar with a line under it."""

    below = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the bar and what stands under it."""
        yield from super().get_renderables()
        if self.below:
            yield Text(self.below)


class ProgressView:
    """Shows the progress of a run.

    Args:
        total: Environment steps of the whole run.
        step: Steps done before this start.
        mode: "auto", "bar", "lines" or "off".
        console: Where it is shown, standard error where None.
    """

    def __init__(self, total: int, step: int, mode: str, console: Console | None = None) -> None:
        self.console = console or Console(file=sys.stderr, highlight=False, markup=False)
        if mode == "auto":
            mode = "bar" if self.console.is_terminal else "lines"
        self._mode, self._total = mode, total
        self._drawn = time.perf_counter()
        self._mark = (self._drawn, step)
        self._bar: _Bar | None = None
        if mode == "bar":
            columns = (
                TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
                BarColumn(),
                _Speed(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
            )
            self._bar = _Bar(*columns, console=self.console)
            self._task = self._bar.add_task("", total=total, completed=step)
            self._bar.start()

    def update(self, step: int, rates: Mapping[str, float] | None = None) -> None:
        """Show ``step`` and the success rates of training, at most a few times a second."""
        now = time.perf_counter()
        wait = _REDRAW_EVERY if self._bar else _LINE_EVERY
        if self._mode == "off" or now - self._drawn < wait:
            return
        self._drawn = now
        summary, each = brief_rates(rates or {}), rates_of_tasks(rates or {})
        if self._bar:
            self._bar.below = each
            self._bar.update(self._task, completed=step, description=summary)
            return
        speed = (step - self._mark[1]) / (now - self._mark[0])
        self._mark = (now, step)
        left = _duration((self._total - step) / speed) if speed > 0 else "?"
        told = f"{summary}: {each}" if each else summary
        self.say(f"step {step:,} of {self._total:,} · {speed:,.0f} steps/s · {left} left · {told}")

    def wants_rates(self) -> bool:
        """Tell whether ``update`` would show something now, so that nobody computes rates for nothing."""
        wait = _REDRAW_EVERY if self._bar else _LINE_EVERY
        return self._mode != "off" and time.perf_counter() - self._drawn >= wait

    def say(self, line: str) -> None:
        """Print one line above the bar."""
        if self._mode != "off":
            self.console.print(line, soft_wrap=True)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar:
            self._bar.stop()


def brief_rates(rates: Mapping[str, float]) -> str:
    """Return the mean of the tasks' success rates in a few words."""
    if not rates:
        return "no episode has ended yet"
    return f"success {sum(rates.values()) / len(rates):.0%}"


def rates_of_tasks(rates: Mapping[str, float]) -> str:
    """Return the success rate of each task, in percent, in as few characters as tell which it is."""
    return " · ".join(f"{task.removesuffix('-v3')} {100 * rate:.0f}" for task, rate in rates.items())


def result_table(evaluation: Evaluation, title: str) -> Table:
    """Return the results of an evaluation as a table."""
    table = Table(title=title, title_justify="left")
    table.add_column("task")
    for column in ("success", "return", "length", "episodes"):
        table.add_column(column, justify="right")
    rows: Sequence = evaluation.results
    for row in rows:
        numbers = (
            f"{row.success_rate:.0%}",
            f"{row.mean_return:,.0f}",
            f"{row.mean_length:.0f}",
            str(row.episodes),
        )
        table.add_row(row.task, *numbers)
    if len(rows) > 1:
        table.add_section()
        table.add_row("mean", f"{evaluation.success_rate:.1%}", f"{evaluation.mean_return:,.0f}", "", "")
    return table


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
