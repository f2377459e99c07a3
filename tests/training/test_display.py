"""What a person sees while a run trains: each task's success, on a terminal and without one, or nothing."""

import io
import re

import pytest
from rich.console import Console

from mtrl.tasks import MT10, MT50
from mtrl.training import display
from mtrl.training.display import ProgressView

RATES = {task: number / 20 for number, task in enumerate(MT10)}


class Clock:
    """Stands in for the time module, and passes only when it is told to."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(display, "time", clock)
    return clock


def make(mode, *, terminal, width=120):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, highlight=False)
    return ProgressView(1_000_000, 0, mode, console), console.file


def plain(text):
    """Return what was written to a terminal without the codes that move its cursor and colour it."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")


def last_drawn(view, file):
    file.seek(0)
    file.truncate()
    view._bar.refresh()
    return plain(file.getvalue())


def test_the_bar_tells_steps_and_mean_and_under_it_each_of_ten_tasks():
    view, file = make("bar", terminal=True)
    view.update(500, {})
    shown = last_drawn(view, file)
    assert "no episode has ended yet" in shown
    assert len([line for line in shown.splitlines() if line.strip()]) == 1
    view.update(250_000, RATES)
    shown = last_drawn(view, file)
    view.close()
    bar, *below = [line for line in shown.splitlines() if line.strip()]
    assert "250,000/1,000,000" in bar
    assert "success 22%" in bar
    told = " ".join(" ".join(below).split())
    expected = " · ".join(f"{task[:-3]} {5 * number}" for number, task in enumerate(MT10))
    assert told == expected
    assert told.startswith("reach 0 · push 5 · pick-place 10 · door-open 15")


@pytest.mark.parametrize("tasks", [MT10[:1], MT10, MT50])
def test_a_plain_line_tells_everything_of_every_task(clock, tasks):
    view, file = make("auto", terminal=False, width=80)
    clock.now += 20
    view.update(10_000, dict.fromkeys(tasks, 0.4))
    view.close()
    (line,) = file.getvalue().splitlines()
    assert line.startswith("step 10,000 of 1,000,000 · 500 steps/s · 33:00 left · success 40%: ")
    told = dict(part.rsplit(" ", 1) for part in line.partition("%: ")[2].split(" · "))
    assert told == {task.removesuffix("-v3"): "40" for task in tasks}
    assert "\x1b" not in line


def test_a_plain_line_before_an_episode_has_ended_says_so(clock):
    view, file = make("lines", terminal=True)
    clock.now += 20
    view.update(100, {})
    view.close()
    assert file.getvalue().rstrip().endswith("left · no episode has ended yet")


def test_lines_come_seldom_and_rates_are_asked_for_only_then(clock):
    view, file = make("lines", terminal=False)
    for _ in range(60):
        clock.now += 1
        if view.is_due():
            view.update(1000, RATES)
    assert len(file.getvalue().splitlines()) == 4


def test_auto_is_a_bar_on_a_terminal():
    view, file = make("auto", terminal=True)
    view.say("step 5: success 50 %")
    view.close()
    assert "0/1,000,000" in plain(file.getvalue())
    assert "step 5: success 50 %" in plain(file.getvalue())


def test_off_shows_nothing_at_all(clock):
    view, file = make("off", terminal=True)
    clock.now += 100
    assert not view.is_due()
    view.update(10_000, RATES)
    view.say("a line")
    view.close()
    assert file.getvalue() == ""
