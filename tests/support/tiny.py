"""A light environment with the project's contract, the run that uses it, and the faults a run is given."""

import errno
import os
import pydoc
import resource
import signal
import time
from pathlib import Path

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import VecEnv

TINY = [
    "experiment=smoke",
    "variant=shared",
    "env.horizon=16",
    "total_steps=240",
    "algo.learning_starts=40",
    "algo.batch_size=8",
    "algo.buffer_size=150",
    "variant.actor_layers=[8]",
    "variant.critic_layers=[8]",
    "evaluation.every=80",
    "evaluation.episodes=1",
    "evaluation.final_episodes=1",
    "checkpoint.every=40",
    "logging.every=30",
    "logging.progress=off",
    "logging.tensorboard=false",
    "hardware=cpu",
    "hardware.backend=stock",
    "hardware.torch_threads=1",
]
ACTION, OBSERVATION = 4, 39


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

    def _observe(self, i):
        return np.concatenate([self.positions[i].astype(np.float32), self.one_hots[self.tasks[i]]])

    def reset(self):
        for i in range(self.num_envs):
            self._begin(i)
        return np.stack([self._observe(i) for i in range(self.num_envs)])

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
        return {
            "generator": self.generators[i].bit_generator.state,
            "coming": self.coming[i],
            "task": self.tasks[i],
            "position": self.positions[i].copy(),
            "length": self.lengths[i],
            "return": self.returns[i],
        }

    def _set_state(self, i, state):
        self.generators[i].bit_generator.state = state["generator"]
        self.coming[i], self.tasks[i] = state["coming"], state["task"]
        self.positions[i] = state["position"]
        self.lengths[i], self.returns[i] = state["length"], state["return"]

    def get_attr(self, attr_name, indices=None):
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False for _ in self._get_indices(indices)]

    def set_attr(self, attr_name, value, indices=None):
        raise AttributeError(attr_name)

    def close(self):
        pass


def use_tiny_environment(**faults):
    """Let runs in this process train on the light environment; ``faults`` name the vector step of each."""
    import mtrl.env.make

    made = []

    def make(tasks, copies_per_task, *, seed, horizon, **_):
        copies = [copies_per_task] * len(tasks) if isinstance(copies_per_task, int) else copies_per_task
        assignment = [task for task, count in enumerate(copies) for _ in range(count)]
        # The first are those of training.
        made.append(TinyVecEnv(tasks, assignment, seed, horizon, () if made else faults.items()))
        return made[-1]

    mtrl.env.make.make_vec_env = make


def die_at_write(number):
    """End the process at the ``number``-th time that something is forced to the disk or given its name."""
    count = 0

    def counted(function):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == number:
                os._exit(99)
            return function(*args, **kwargs)

        return call

    os.fsync, os.rename, os.replace = counted(os.fsync), counted(os.rename), counted(os.replace)
    Path.rename, Path.replace = counted(Path.rename), counted(Path.replace)
    return lambda: count


def poison_action(step):
    """Let the agent choose an action that is NaN at a step of training."""
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

    original = OffPolicyAlgorithm._sample_action

    def sample_action(self, *args, **kwargs):
        action, buffer_action = original(self, *args, **kwargs)
        if self.num_timesteps == step:
            action, buffer_action = action.copy(), buffer_action.copy()
            action[1, 2] = buffer_action[1, 2] = np.nan
        return action, buffer_action

    OffPolicyAlgorithm._sample_action = sample_action


def before_each_step(do):
    """Let runs in this process call ``do`` with the agent and its callbacks before each step of training is logged."""
    from mtrl.training.callbacks import RunCallbacks

    original = RunCallbacks._on_step

    def on_step(self):
        do(self.model, self)
        return original(self)

    RunCallbacks._on_step = on_step


def poison_weights(step):
    """Make a weight NaN at a vector step of training."""
    import torch

    def poison(model, _):
        if model.num_timesteps == step:
            with torch.no_grad():
                next(model.critic.parameters()).view(-1)[0] = float("nan")

    before_each_step(poison)


def poison_transitions(step, task):
    """Make what is held of a task too large for the loss, at a vector step of training."""

    def poison(model, _):
        if model.num_timesteps == step:
            buffer = model.replay_buffer
            buffer.observations[buffer.tasks == task, 0] = 3e38

    before_each_step(poison)


def signal_self(step, *numbers):
    """Send this process signals at a step of training."""
    waiting = list(numbers)

    def send(model, _):
        while waiting and model.num_timesteps >= step:
            os.kill(os.getpid(), waiting.pop(0))

    before_each_step(send)


def signal_in_evaluation(number, step):
    """Send this process a signal in the first evaluation from a step on."""
    from mtrl.training.callbacks import EvaluationCallback

    original, sent = EvaluationCallback.evaluate_now, []

    def evaluate_now(self, *args):
        if not sent and self.num_timesteps >= step:
            sent.append(True)
            os.kill(os.getpid(), number)
        return original(self, *args)

    EvaluationCallback.evaluate_now = evaluate_now


def interrupt_at(monkeypatch, steps):
    """Let a signal arrive at each of the steps of training, once."""
    from mtrl.training.callbacks import RunCallbacks

    monkeypatch.setattr(RunCallbacks, "_on_step", RunCallbacks._on_step)
    waiting = list(steps)

    def interrupt(model, callbacks):
        if waiting and model.num_timesteps >= waiting[0]:
            waiting.pop(0)
            callbacks.signals.received = signal.SIGTERM

    before_each_step(interrupt)


def signal_at(number, owner, name):
    """Send this process a signal as it enters a function, in which it then stays."""
    place = pydoc.locate(owner)
    original = getattr(place, name)

    def patched(*args, **kwargs):
        os.kill(os.getpid(), number)
        time.sleep(60)
        return original(*args, **kwargs)

    setattr(place, name, patched)


def limit_file_size(bytes_, begin, end):
    """Let every write beyond a size fail between two steps of training, as on a full disk."""

    def limit(model, _):
        full = begin <= model.num_timesteps < end
        size = bytes_ if full else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    before_each_step(limit)


def wait_at(step, seconds):
    """Let a run wait at a step of training."""
    before_each_step(lambda model, _: time.sleep(seconds) if model.num_timesteps == step else None)


def no_room_for(name):
    """Let the writing of one array file fail half way, as on a full disk."""
    original = np.savez

    def savez(file, *args, **kwargs):
        if Path(file).name != name:
            return original(file, *args, **kwargs)
        Path(file).write_bytes(b"PK")
        raise OSError(errno.ENOSPC, "No space left on device")

    np.savez = savez


def break_simulation(every):
    """Give a Meta-World simulation an impossible speed at every so-manieth step."""
    from mtrl.env.metaworld import StockEnv

    original, count = StockEnv.step, 0

    def step(self, action):
        nonlocal count
        count += 1
        if count % every == 0:
            self._env().data.qvel[:] = 1e12
        return original(self, action)

    StockEnv.step = step
