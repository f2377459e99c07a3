"""Many command lines of mtrl, each in a process forked from one that has imported what a refusal needs."""

import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NamedTuple

HEAVY = ("torch", "mujoco", "metaworld", "stable_baselines3", "numba")


class Answer(NamedTuple):
    """How a command line was answered."""

    code: int
    printed: str
    seconds: float
    """Of processor time, without those that Python and Hydra take to start."""
    imported: list[str]
    """The heavy packages that it imported."""


def answers(lines, folder):
    """Return the answers to command lines in a folder, which is their working directory."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, __file__]
    asked = subprocess.run(
        command, input=json.dumps(lines), env=environment, cwd=folder, stdout=-1, text=True
    )
    return [Answer(*answer) for answer in json.loads(asked.stdout)]


def _answer(words):
    from mtrl.__main__ import main

    with tempfile.TemporaryFile("w+") as printed:
        pid = os.fork()
        if pid == 0:
            code = 1
            os.dup2(printed.fileno(), 1)
            os.dup2(printed.fileno(), 2)
            try:
                main(words)
            except SystemExit as end:
                code = end.code or 0
            except BaseException:
                traceback.print_exc()
            print("", *(name for name in HEAVY if name in sys.modules), sep="\n", flush=True)
            os._exit(code)
        _, status, used = os.wait4(pid, 0)
        printed.seek(0)
        text, _, imported = printed.read().rpartition("\n\n")
    return os.waitstatus_to_exitcode(status), text, used.ru_utime + used.ru_stime, imported.split()


if __name__ == "__main__":
    import mtrl.experiment
    import mtrl.start  # noqa: F401

    print(json.dumps([_answer(words) for words in json.load(sys.stdin)]))
