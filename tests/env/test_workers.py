"""Worker processes give the numbers of one process, and their failures are named and never hang."""

import os
import signal
import sys
import time
from functools import partial
from multiprocessing import forkserver

import gymnasium
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv
from stepping import assert_same_steps, random_actions
from tiny_runs import python

from mtrl.env import workers
from mtrl.env.make import make_vec_env
from mtrl.env.workers import WorkerVecEnv
from mtrl.errors import ActionNotFiniteError, WorkerLostError, WorkerRaisedError
from mtrl.signals import HANDLED

TASKS = ["reach-v3", "push-v3"]


class Light(gymnasium.Env):
    """A tiny environment that raises, hangs or kills its process when an action says so."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-9, 9, (1,), np.float32)

    def __init__(self, number):
        self.number, self.count = number, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.observation(), {"seed": seed}

    def step(self, action):
        if action[0] == 1:
            raise RuntimeError(f"environment {self.number} broke")
        if action[0] == 2:
            time.sleep(60)
        if action[0] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1
        return self.observation(), float(action[0]), False, self.count == 3, {}

    def observation(self):
        return np.array([self.number, self.count], np.float32)

    def who(self, prefix="copy"):
        return f"{prefix} {self.number}"

    def break_down(self):
        raise KeyError("no such thing")


@pytest.fixture
def light():
    made = []

    def make(copies=4, workers=2, timeout=20.0):
        names = [f"copy {i} (task-{i})" for i in range(copies)]
        make_envs = [partial(Light, i) for i in range(copies)]
        made.append(WorkerVecEnv(make_envs, workers, names=names, timeout=60))
        # Starting takes seconds where others use the machine; only answers are awaited for a short time.
        made[-1]._timeout = timeout
        return made[-1]

    yield make
    for env in made:
        env.close()


def exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def actions(*values):
    return np.array(values, np.float32)[:, None]


def test_worker_processes_give_the_numbers_of_one_process():
    options = {"backend": "stock", "seed": 3, "horizon": 15}
    alone, spread = (make_vec_env(TASKS, [3, 2], workers=workers, **options) for workers in (1, 2))
    assert isinstance(alone, DummyVecEnv)
    assert isinstance(spread, WorkerVecEnv)
    assert spread.observation_space == alone.observation_space
    assert spread.action_space == alone.action_space
    np.testing.assert_array_equal(spread.reset(), alone.reset())
    assert spread.reset_infos == alone.reset_infos
    for step, action in enumerate(random_actions(40, 5)):
        if step == 5:
            for env in (alone, spread):
                env.env_method("set_task", 1, 9, indices=[0, 4])
        if step == 20:
            states = [env.env_method("get_state", indices=[1])[0] for env in (alone, spread)]
            np.testing.assert_array_equal(states[0]["physics"], states[1]["physics"])
        assert_same_steps([spread.step(action)], [alone.step(action)])
        assert spread.reset_infos == alone.reset_infos
    for env in (alone, spread):
        env.seed(11)
    np.testing.assert_array_equal(spread.reset(), alone.reset())
    alone.close()
    spread.close()


def test_calls_reach_the_copies_named_and_answers_come_in_their_order(light):
    env = light(5, 2)
    assert env.env_method("who") == [f"copy {i}" for i in range(5)]
    assert env.env_method("who", "number", indices=[4, 0, 2]) == ["number 4", "number 0", "number 2"]
    assert env.env_method("who", prefix="n", indices=1) == ["n 1"]
    env.set_attr("number", 7, indices=[1, 3])
    assert env.get_attr("number") == [0, 7, 2, 7, 4]
    assert env.env_is_wrapped(gymnasium.Wrapper) == [False] * 5
    env.seed(20)
    env.reset()
    assert [info["seed"] for info in env.reset_infos] == [20, 21, 22, 23, 24]
    assert len({process.pid for process in env._processes}) == 2


@pytest.mark.parametrize("copy", [0, 3])
def test_of_the_copies_of_a_worker_the_one_that_raises_is_named_with_its_traceback(light, copy):
    env = light()
    env.reset()
    sentence = rf"^the environment of copy {copy} \(task-{copy}\) raised:(?s:.*)RuntimeError: environment {copy} broke"
    with pytest.raises(WorkerRaisedError, match=sentence):
        env.step(actions(*(number == copy for number in range(4))))
    sentence = r"(?s)environment of copy 1 \(task-1\) raised.*no such thing"
    with pytest.raises(WorkerRaisedError, match=sentence):
        light().env_method("break_down", indices=[1])


@pytest.mark.parametrize(
    ("sent", "action", "sentence"),
    [
        (None, (0, 0, 0, 3), r"copy 2 .*task-3\) was killed \(exit code -9\).*run the same command"),
        (signal.SIGKILL, (0, 0, 0, 0), r"copy 0 \(task-0\).* was killed"),
        (signal.SIGSTOP, (0, 0, 0, 0), r"copy 0 .* has not answered for 0.5 s"),
        (None, (2, 0, 0, 0), r"copy 0 .* has not answered for 0.5 s"),
    ],
)
def test_a_killed_or_silent_worker_is_named_within_the_time_out_and_close_does_not_hang(
    light, sent, action, sentence
):
    env = light(timeout=0.5 if "answered" in sentence else 20.0)
    env.reset()
    pids = [process.pid for process in env._processes]
    if sent is not None:
        os.kill(pids[0], sent)
    if sent is signal.SIGKILL:
        env._processes[0].join(10)
    started = time.monotonic()
    with pytest.raises(WorkerLostError, match=sentence):
        env.step(actions(*action))
    assert time.monotonic() - started < 10
    assert not any(map(exists, pids))


def test_close_ends_every_process_at_any_time_and_twice(light):
    env = light()
    env.reset()
    pids = [process.pid for process in env._processes]
    env.step_async(actions(0, 0, 0, 0))
    env.close()
    env.close()
    assert not any(map(exists, pids))


def test_what_ends_a_run_leaves_the_process_that_starts_workers(light):
    light()
    server = forkserver._forkserver._forkserver_pid
    for number in HANDLED:
        os.kill(server, number)
    time.sleep(0.2)
    assert light().env_method("who") == ["copy 0", "copy 1", "copy 2", "copy 3"]
    assert forkserver._forkserver._forkserver_pid == server
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []).isdisjoint(HANDLED)


def test_a_killed_process_that_starts_workers_is_named_and_replaced(light, monkeypatch):
    light()
    server = forkserver._forkserver._forkserver_pid
    # It dies between the look at it and the order to start a worker.
    monkeypatch.setattr(workers, "_start_fork_server", lambda: None)
    monkeypatch.setattr(forkserver, "ensure_running", lambda: None)
    os.kill(server, signal.SIGKILL)
    with pytest.raises(
        WorkerLostError, match="the server that starts worker processes was killed: run the same"
    ):
        light()
    monkeypatch.undo()
    # Its socket closes a moment before it is seen to have ended.
    os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
    assert light().env_method("who") == ["copy 0", "copy 1", "copy 2", "copy 3"]


def test_the_server_of_workers_imports_what_this_process_does(monkeypatch):
    """In a directory with another ``mtrl``, which Python would look at first."""
    seen = []
    monkeypatch.setattr(forkserver, "ensure_running", lambda: seen.append(dict(os.environ)))
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    for first in ("/elsewhere", os.getcwd(), ""):
        monkeypatch.setattr(sys, "path", [first, *sys.path])
        workers._start_fork_server()
    assert ["PYTHONSAFEPATH" in variables for variables in seen] == [True, False, False]
    assert "PYTHONSAFEPATH" not in os.environ


UNGUARDED = """
import mtrl
env = mtrl.make_vec_env(["reach-v3", "push-v3"], backend="stock", workers=2)
"""


def test_a_script_that_does_not_ask_whether_it_is_the_main_one_is_told_so(tmp_path):
    (tmp_path / "loop.py").write_text(UNGUARDED)
    done = python("loop.py", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert (
        'put what it does below the line if __name__ == "__main__":, or give' in done.stderr.splitlines()[-1]
    )


def test_a_copy_is_called_by_the_task_that_it_plays_now(make):
    env = make("workers", TASKS)
    env.env_method("set_task", 0, indices=[1])
    env.reset()
    actions = np.zeros((2, 4), np.float32)
    actions[1] = np.nan
    with pytest.raises(ActionNotFiniteError, match=r"of copy 1 \(reach-v3\)"):
        env.step(actions)
