"""What a person sees while a run trains: each task's success, on a terminal and without one, or nothing."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from mtrl.tasks import MT10, MT50
from mtrl.training import display

RATES = {task: number / 20 for number, task in enumerate(MT10)}


@pytest.fixture
def clock(monkeypatch):
    """Stand in for the time module, and pass only when told to."""
    clock = SimpleNamespace(now=100.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(display, "time", clock)
    return clock


def make(mode, *, terminal, width=120):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, highlight=False)
    return display.ProgressView(1_000_000, 0, mode, console), console.file


def lines_of(file):
    """Return the lines written to a terminal without the codes that move its cursor and colour it."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()).replace("\r", "\n")
    return [line for line in text.splitlines() if line.strip()]


def last_drawn(view, file):
    file.seek(0)
    file.truncate()
    view._bar.refresh()
    return lines_of(file)


def test_the_bar_tells_steps_and_mean_and_under_it_each_of_ten_tasks():
    view, file = make("auto", terminal=True)
    view.say("step 5: success 50 %")
    assert any("0/1,000,000" in line for line in lines_of(file))
    assert "step 5: success 50 %" in lines_of(file)
    view.update(500, {})
    (bar,) = last_drawn(view, file)
    assert "no episode has ended yet" in bar
    view.update(250_000, RATES)
    bar, *below = last_drawn(view, file)
    view.close()
    assert "250,000/1,000,000" in bar
    assert "success 22%" in bar
    told = " ".join(" ".join(below).split())
    assert told == " · ".join(f"{task[:-3]} {5 * number}" for number, task in enumerate(MT10))
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


def test_lines_come_seldom_and_say_so_before_an_episode_has_ended(clock):
    view, file = make("lines", terminal=True)
    for _ in range(60):
        clock.now += 1
        # Rates are asked for only then.
        if view.is_due():
            view.update(1000, {})
    lines = file.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0].endswith("left · no episode has ended yet")


def test_off_shows_nothing_at_all(clock):
    view, file = make("off", terminal=True)
    clock.now += 100
    assert not view.is_due()
    view.update(10_000, RATES)
    view.say("a line")
    view.close()
    assert file.getvalue() == ""
