"""A light environment with the project's contract, the run that uses it, and the faults a run is given."""

import errno
import itertools
import os
import pydoc
import resource
import signal
import time
from copy import copy
from pathlib import Path

import gymnasium
import numpy as np
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from mtrl.env.metaworld import StockEnv
from mtrl.training.callbacks import Evaluations, RunCallbacks

WORDS = (
    "experiment=smoke variant=shared env.horizon=16 total_steps=240 algo.learning_starts=40 algo.batch_size=8 "
    "algo.buffer_size=150 variant.actor_layers=[8] variant.critic_layers=[8] evaluation.every=80 "
    "evaluation.episodes=1 evaluation.final_episodes=1 checkpoint.every=40 logging.every=30 logging.progress=off "
    "logging.tensorboard=false hardware=cpu hardware.backend=stock hardware.torch_threads=1"
)
TINY = WORDS.split()
ACTION, OBSERVATION = 4, 39
STATE = ("coming", "tasks", "positions", "lengths", "returns")


class TinyVecEnv(VecEnv):
    """Points that drift; each copy has a generator of its own, as Meta-World's copies here do."""

    render_mode = None

    def __init__(self, tasks, assignment, seed, horizon, faults=()):
        size = OBSERVATION + len(tasks)
        space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        super().__init__(len(assignment), space, gymnasium.spaces.Box(-1, 1, (ACTION,), np.float32))
        self.horizon, self.one_hots = horizon, np.eye(len(tasks), dtype=np.float32)
        self.generators = [np.random.default_rng(seed + i) for i in range(self.num_envs)]
        self.coming, self.tasks = list(assignment), list(assignment)
        self.goals = [None] * self.num_envs
        self.positions = np.zeros((self.num_envs, OBSERVATION))
        self.lengths, self.returns = [0] * self.num_envs, [0.0] * self.num_envs
        self.faults, self.steps = dict(faults), 0

    def _begin(self, i):
        self.tasks[i] = self.coming[i]
        if self.goals[i] is not None:
            # As in Meta-World, an episode on a goal that is given depends on nothing that was played before.
            self.generators[i] = np.random.default_rng(self.goals[i])
        self.positions[i] = self.generators[i].normal(size=OBSERVATION)
        self.lengths[i], self.returns[i] = 0, 0.0
        return self._observe(i)

    def _observe(self, i):
        return np.concatenate([self.positions[i].astype(np.float32), self.one_hots[self.tasks[i]]])

    def reset(self):
        return np.stack([self._begin(i) for i in range(self.num_envs)])

    def step_async(self, actions):
        self.actions = actions

    def step_wait(self):
        self.steps += 1
        infos, rewards, dones = [], np.zeros(self.num_envs, np.float32), np.zeros(self.num_envs, bool)
        for i in range(self.num_envs):
            self.positions[i, :ACTION] += 0.1 * self.actions[i]
            self.positions[i] += 0.01 * self.generators[i].normal(size=OBSERVATION)
            rewards[i] = -np.abs(self.positions[i, :ACTION]).sum()
            for fault, step in self.faults.items():
                if step == self.steps and i == 1:
                    number, where = fault.split("_")
                    target = rewards[i:] if where == "reward" else self.positions[i, 3:]
                    target[0] = np.nan if number == "nan" else -np.inf
            self.lengths[i] += 1
            self.returns[i] += float(rewards[i])
            dones[i] = self.lengths[i] >= self.horizon
            info = {"task_id": self.tasks[i], "success": False, "is_success": bool(rewards[i] > -1)}
            info["TimeLimit.truncated"] = bool(dones[i])
            if dones[i]:
                info["episode"] = {"r": self.returns[i], "l": self.lengths[i], "t": 0.0}
                info["terminal_observation"] = self._observe(i)
                self._begin(i)
            infos.append(info)
        return np.stack([self._observe(i) for i in range(self.num_envs)]), rewards, dones, infos

    def env_method(self, method_name, *args, indices=None, **kwargs):
        return [getattr(self, f"_{method_name}")(i, *args, **kwargs) for i in self._get_indices(indices)]

    def _set_task(self, i, task, goal=None):
        self.coming[i], self.goals[i] = task, goal

    def _get_state(self, i):
        state = {name: copy(getattr(self, name)[i]) for name in STATE}
        return state | {"generator": self.generators[i].bit_generator.state}

    def _set_state(self, i, state):
        self.generators[i].bit_generator.state = state["generator"]
        for name in STATE:
            getattr(self, name)[i] = state[name]

    def get_attr(self, attr_name, indices=None):
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False for _ in self._get_indices(indices)]

    def set_attr(self, attr_name, value, indices=None):
        raise AttributeError(attr_name)

    def close(self):
        pass


def use_tiny_environment(monkeypatch, **faults):
    """Let runs in this process train on the light environment; ``faults`` name the vector step of each."""
    made = []

    def make(tasks, copies_per_task, *, seed, horizon, **_):
        copies = [copies_per_task] * len(tasks) if isinstance(copies_per_task, int) else copies_per_task
        assignment = [task for task, count in enumerate(copies) for _ in range(count)]
        # The first are those of training.
        made.append(TinyVecEnv(tasks, assignment, seed, horizon, () if made else faults.items()))
        return made[-1]

    monkeypatch.setattr("mtrl.env.make.make_vec_env", make)


def around(owner, name):
    """Return a decorator that puts a function in the place of ``owner.name``; it gets that as its first argument."""

    def put(function):
        original = getattr(owner, name)
        setattr(owner, name, lambda *args, **kwargs: function(original, *args, **kwargs))

    return put


def before_each_step(do):
    """Let runs in this process call ``do`` with the agent and its callbacks before each step of training is logged."""

    @around(RunCallbacks, "_on_step")
    def on_step(original, callbacks):
        do(callbacks.model, callbacks)
        return original(callbacks)


def at_step(step, do):
    """Let runs in this process call ``do`` with the agent at a step of training."""
    before_each_step(lambda model, _: do(model) if model.num_timesteps == step else None)


def die_at_write(number):
    """End the process at the ``number``-th time that something is forced to the disk or given its name."""
    count = itertools.count(1)
    for owner, name in ((os, "fsync"), (os, "rename"), (os, "replace"), (Path, "rename"), (Path, "replace")):

        @around(owner, name)
        def write(original, *args, **kwargs):
            return os._exit(99) if next(count) == number else original(*args, **kwargs)


def poison_action(step):
    """Let the agent choose an action that is NaN at a step of training."""

    @around(OffPolicyAlgorithm, "_sample_action")
    def sample_action(original, agent, *args, **kwargs):
        action, buffer_action = (chosen.copy() for chosen in original(agent, *args, **kwargs))
        if agent.num_timesteps == step:
            action[1, 2] = buffer_action[1, 2] = np.nan
        return action, buffer_action


def poison_weights(step):
    """Make a weight NaN at a step of training."""
    at_step(step, lambda model: next(model.critic.parameters()).detach().view(-1)[:1].fill_(float("nan")))


def poison_transitions(step, task):
    """Make what is held of a task too large for the loss, at a step of training."""

    def poison(model):
        buffer = model.replay_buffer
        buffer.observations[buffer.tasks == task, 0] = 3e38

    at_step(step, poison)


def signal_self(step, *numbers):
    """Send this process signals at a step of training."""
    at_step(step, lambda _: [os.kill(os.getpid(), number) for number in numbers])


def signal_in_evaluation(number, step):
    """Send this process a signal in the first evaluation from a step on."""
    waiting = [number]

    @around(Evaluations, "evaluate_now")
    def evaluate_now(original, evaluations, *args):
        if waiting and evaluations.run.num_timesteps >= step:
            os.kill(os.getpid(), waiting.pop())
        return original(evaluations, *args)


def interrupt_at(monkeypatch, steps):
    """Let a signal arrive at each of the steps of training, once."""
    monkeypatch.setattr(RunCallbacks, "_on_step", RunCallbacks._on_step)
    waiting = list(steps)

    def interrupt(model, callbacks):
        if waiting and model.num_timesteps >= waiting[0]:
            waiting.pop(0)
            callbacks.signals.received = signal.SIGTERM

    before_each_step(interrupt)


def signal_at(number, owner, name):
    """Send this process a signal as it enters a function, in which it then stays."""

    @around(pydoc.locate(owner), name)
    def stay(original, *args, **kwargs):
        os.kill(os.getpid(), number)
        time.sleep(60)


def limit_file_size(bytes_, begin, end):
    """Let every write beyond a size fail between two steps of training, as on a full disk."""

    def limit(model, _):
        size = bytes_ if begin <= model.num_timesteps < end else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    before_each_step(limit)


def no_room_for(name):
    """Let the writing of one array file fail half way, as on a full disk."""

    @around(np, "savez")
    def savez(original, file, *args, **kwargs):
        if Path(file).name != name:
            return original(file, *args, **kwargs)
        Path(file).write_bytes(b"PK")
        raise OSError(errno.ENOSPC, "No space left on device")


def break_simulation(every):
    """Give a Meta-World simulation an impossible speed at every so-manieth step."""
    count = itertools.count(1)

    @around(StockEnv, "step")
    def step(original, env, action):
        if next(count) % every == 0:
            env._env().data.qvel[:] = 1e12
        return original(env, action)
