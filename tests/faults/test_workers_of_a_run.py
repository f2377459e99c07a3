"""A worker that dies, stops or raises ends the run with the code that says whether to try again."""

import os
import signal
from functools import partial

import gymnasium
import numpy as np
import pytest
from tiny import TINY

from mtrl.env.workers import WorkerVecEnv
from mtrl.experiment import compose_run, run_directory
from mtrl.start import run_one


class Fragile(gymnasium.Env):
    """Breaks in the way given at its 40th step, in training."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (41,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)

    def __init__(self, task, how):
        self.task, self.how, self.steps, self.length = task, how, 0, 0

    def reset(self, *, seed=None, options=None):
        self.length = 0
        return np.zeros(41, np.float32), {}

    def step(self, action):
        self.steps, self.length = self.steps + 1, self.length + 1
        if self.steps == 40 and self.how == "raise":
            raise KeyError("a broken environment")
        if self.steps == 40 and self.how is not None:
            os.kill(os.getpid(), self.how)
        # What only the last step of an episode tells is ignored in the others.
        info = {"task_id": self.task, "is_success": False, "episode": {"r": 0.0, "l": 16, "t": 0.0}}
        return np.full(41, self.length, np.float32), 0.0, False, self.length == 16, info

    def set_task(self, task, goal=None):
        self.task = task

    def get_state(self):
        return vars(self).copy()

    def set_state(self, state):
        vars(self).update(state)


@pytest.mark.slow
def test_workers_start_where_the_path_of_temporary_files_is_too_long_for_a_socket(tmp_path, command):
    long = tmp_path / ("t" * 104)
    long.mkdir()
    answer = command(*TINY, "hardware.workers=2", f"output={tmp_path}", TMPDIR=str(long))
    assert (answer.returncode, "Traceback" in answer.stderr) == (0, False), answer.stderr


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        (signal.SIGKILL, 75, "was killed (exit code -9): run the same command again"),
        (signal.SIGSTOP, 75, "has not answered for 3 s: run the same command again"),
        ("raise", 1, "a broken environment"),
    ],
)
def test_a_worker_that_fails_is_named_and_the_run_ends(tmp_path, monkeypatch, capsys, how, code, words):
    kinds = iter([how, None])

    def make(tasks, copies_per_task, **_):
        kind = next(kinds)
        makers = [partial(Fragile, task, kind if task else None) for task in range(len(tasks))]
        names = [f"copy {i} ({task})" for i, task in enumerate(tasks)]
        # A busy machine may be slow to answer; only a stopped worker has to be waited for in vain.
        return WorkerVecEnv(makers, 2, names=names, timeout=3.0 if how == signal.SIGSTOP else 60.0)

    monkeypatch.setattr("mtrl.env.make.make_vec_env", make)
    composition = compose_run([*TINY, "total_steps=120", "evaluation.every=1000", f"output={tmp_path}"])
    assert run_one(composition) == code
    said = capsys.readouterr().err
    assert "copy 1 (push-v3)" in said
    assert words in said
    steps = [path.name for path in (run_directory(composition) / "checkpoints").glob("step_*")]
    assert steps == ["step_40"]
