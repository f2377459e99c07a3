"""What a person sees while a run trains: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mtrl.evaluation.protocol import Evaluation

_LINE_EVERY, _REDRAW_EVERY = 15.0, 0.2
"""Seconds between plain lines, and between updates of the bar."""


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} steps/s")


class _Bar(Progress):
    """A bar with a line under it."""

    below = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.below:
            yield Text(self.below)


class ProgressView:
    """Shows the progress of a run of ``total`` steps, of which ``step`` are done, on standard error by default.

    ``mode`` is "auto", "bar", "lines" or "off".
    """

    def __init__(self, total: int, step: int, mode: str, console: Console | None = None) -> None:
        self.console = console or Console(file=sys.stderr, highlight=False, markup=False)
        if mode == "auto":
            mode = "bar" if self.console.is_terminal else "lines"
        self._off, self._total, self._drawn = mode == "off", total, time.perf_counter()
        self._mark = (self._drawn, step)
        self._bar: _Bar | None = None
        if mode == "bar":
            steps, rates = "{task.completed:,.0f}/{task.total:,.0f}", "{task.description}"
            columns = (TextColumn(steps), BarColumn(), _Speed(), TimeRemainingColumn(), TextColumn(rates))
            # Drawn when told to: no thread, which may be one too many for the limits of a process.
            self._bar = _Bar(*columns, console=self.console, auto_refresh=False)
            self._task = self._bar.add_task("", total=total, completed=step)
            self._bar.start()

    def is_due(self) -> bool:
        """Return whether ``update`` would show something now, so that nobody computes rates for nothing."""
        wait = _REDRAW_EVERY if self._bar else _LINE_EVERY
        return not self._off and time.perf_counter() - self._drawn >= wait

    def update(self, step: int, rates: Mapping[str, float]) -> None:
        """Show ``step`` and the success rates of training."""
        now = self._drawn = time.perf_counter()
        mean = f"success {sum(rates.values()) / len(rates):.0%}" if rates else "no episode has ended yet"
        each = " · ".join(f"{task.removesuffix('-v3')} {100 * rate:.0f}" for task, rate in rates.items())
        if self._bar:
            self._bar.below = each
            self._bar.update(self._task, completed=step, description=mean, refresh=True)
            return
        speed = (step - self._mark[1]) / (now - self._mark[0])
        self._mark = (now, step)
        left = str(timedelta(seconds=int((self._total - step) / speed))) if speed > 0 else "?"
        shown = f"{mean}: {each}" if each else mean
        left = left.removeprefix("0:")
        self.say(f"step {step:,} of {self._total:,} · {speed:,.0f} steps/s · {left} left · {shown}")

    def say(self, line: str) -> None:
        """Print one line above the bar."""
        if not self._off:
            self.console.print(line, soft_wrap=True)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar:
            self._bar.stop()


def result_table(evaluation: Evaluation, title: str) -> Table:
    """Return the results of an evaluation as a table."""
    table = Table("task", title=title, title_justify="left")
    for column in ("success", "return", "length", "episodes"):
        table.add_column(column, justify="right")
    for row in evaluation.results:
        success, mean_return = f"{row.success_rate:.0%}", f"{row.mean_return:,.0f}"
        table.add_row(row.task, success, mean_return, f"{row.mean_length:.0f}", str(row.episodes))
    if len(evaluation.results) > 1:
        table.add_section()
        table.add_row("mean", f"{evaluation.success_rate:.1%}", f"{evaluation.mean_return:,.0f}", "", "")
    return table
