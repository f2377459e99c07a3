"""Nothing that concerns showing ends or alters a run: what cannot be shown is left out, and run.log says so."""

import os
import pty
import random
import select
import signal
import subprocess
import sys
import time

import pytest
import tiny
from forked_runs import assert_same, forked, run_files
from tiny import TINY
from tiny_runs import REPOSITORY

from mtrl import streams


def lose(how, *descriptors):
    """Let this process's output go where it cannot be taken, as if it had been started so."""
    for descriptor in descriptors:
        if how == "closed":
            os.close(descriptor)
        elif how == "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)
        else:
            reading, writing = os.pipe() if how == "reader gone" else os.openpty()
            os.dup2(writing, descriptor)
            os.close(reading)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        closed = how == "closed" and descriptor in descriptors
        setattr(sys, name, None if closed else os.fdopen(descriptor, "w", closefd=False))
        setattr(sys, f"__{name}__", getattr(sys, name))
    streams.protect()


HOW = ("reader gone", "terminal gone", "full", "closed")
CASES = [(how, places, bar) for how in HOW for places in ((1, 2), (1,), (2,)) for bar in ("bar", "lines")]


@pytest.mark.parametrize(
    ("how", "descriptors", "progress"),
    [pytest.param(*case, marks=pytest.mark.slow if i % 7 else []) for i, case in enumerate(CASES)],
)
def test_output_that_is_not_taken_costs_a_run_nothing(whole, tmp_path, how, descriptors, progress):
    shown, left = [word for word in TINY if word != "logging.progress=off"], run_files(tmp_path)
    fault = {"fault": lambda: lose(how, *descriptors)}
    forked(tmp_path, f"logging.progress={progress}", base=shown, **fault)
    assert left.status()["state"] == "finished"
    assert_same(left, whole)
    for descriptor, name in ((1, "output"), (2, "error")):
        said = left.text("run.log").count(f"what standard {name} does not take is left out")
        assert said == (descriptor in descriptors)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_takes_the_reader_with_it_is_still_told_by_the_exit_code(tmp_path, number):
    def fault():
        lose("terminal gone" if number == signal.SIGHUP else "reader gone", 1, 2)
        tiny.signal_self(150, number)

    forked(tmp_path, fault=fault, code=128 + number)
    assert run_files(tmp_path).verify() == 150


def test_a_hangup_that_was_ignored_at_the_start_stays_ignored(whole, tmp_path):
    def fault():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        tiny.signal_self(150, signal.SIGHUP)

    forked(tmp_path, fault=fault)
    assert_same(run_files(tmp_path), whole)


ENCODED = {
    "ascii": rb"step \xb7 \u4e00",
    "latin-1:strict": b"step \xb7 \\u4e00",
    "": "step \xb7 \u4e00".encode(),
}


@pytest.mark.parametrize(("encoding", "shown"), ENCODED.items())
def test_a_character_that_the_terminal_lacks_is_escaped(encoding, shown):
    script = "from mtrl import streams; streams.protect(); print('step \\xb7 \\u4e00')"
    variables = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"}
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, env=variables, capture_output=True
    )
    assert (answer.returncode, answer.stdout.strip(), answer.stderr) == (0, shown, b"")


def test_no_file_of_a_run_or_its_children_gets_the_number_of_a_closed_stream(tmp_path):
    child = "import os; print([os.readlink(f'/proc/self/fd/{n}') for n in range(3)])"
    script = "import os, subprocess, sys; from mtrl import streams; streams.protect();"
    script += (
        f"subprocess.run([sys.executable, '-c', {child!r}], stdout=open({str(tmp_path / 'told')!r}, 'w'))"
    )
    closed = ["sh", "-c", f'{sys.executable} -c "$0" <&- >&- 2>&-', script]
    subprocess.run(closed, cwd=REPOSITORY, check=True)
    told = (tmp_path / "told").read_text().strip()
    assert told == str(["/dev/null", str(tmp_path / "told"), "/dev/null"])


@pytest.mark.slow
def test_terminals_that_are_closed_at_random_moments(tmp_path):
    """The command itself on a terminal of its own, which is closed; with nohup the run goes on."""
    moments, changed = random.Random(16), ("logging.progress", "total_steps")
    words = [*(word for word in TINY if not word.startswith(changed)), "total_steps=1000"]
    whole = run_files(tmp_path / "whole", *words, base=[])
    forked(tmp_path / "whole", *words, base=[], tiny=False)
    for number in range(8):
        output, ignored = tmp_path / str(number), number % 4 == 3
        left = run_files(output, *words, base=[])
        codes = []
        while not codes or codes[-1] != 0:
            pid, terminal = pty.fork()
            if pid == 0:
                signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
                os.environ["PYTHONPATH"] = str(REPOSITORY)
                command = [sys.executable, "-m", "mtrl", *words, f"output={output}"]
                os.execv(sys.executable, command)
            closes = time.monotonic() + (moments.uniform(0.5, 15) if len(codes) < 3 else 600)
            while time.monotonic() < closes:
                if select.select([terminal], [], [], 0.1)[0]:
                    try:
                        os.read(terminal, 10_000)
                    except OSError:
                        break
            os.close(terminal)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            # -1: the terminal went before Python had begun.
            assert codes[-1] in ((0,) if ignored else (0, 129, -1)), codes
            left.verify()
        assert left.status()["state"] == "finished"
        assert_same(left, whole, transitions=100)
