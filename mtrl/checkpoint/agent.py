"""What a run depends on beside weights and transitions: generators, environments, counters, statistics."""

import random
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from mtrl.env.normalize import TaskNormalize

_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")
_LAST = ("_last_obs", "_last_original_obs", "_last_episode_starts")


class Stateful(Protocol):
    """Anything that a checkpoint holds a section of: numbers, words, lists, dicts and numpy arrays."""

    def get_state(self) -> dict[str, Any]:
        """Return everything that decides what comes next."""
        ...

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called."""
        ...


class AgentState:
    """The agent between two rollouts, without its weights and its transitions.

    stable-baselines3's own ``save`` holds none of it and its ``load`` seeds every generator anew.

    Args:
        model: The agent, made anew from its configuration when ``set_state`` is called.
    """

    def __init__(self, model: OffPolicyAlgorithm) -> None:
        self.model = model

    def get_state(self) -> dict[str, Any]:
        """Return the state; call it at the start of a rollout."""
        model = self.model
        state: dict[str, Any] = {
            "counters": {name: getattr(model, name) for name in _COUNTERS if hasattr(model, name)},
            "last": {name: getattr(model, name) for name in _LAST},
            "replay": model.replay_buffer.get_state(),
            "copies": model.env.env_method("get_state"),
            # What the learner logged since the last row is part of the next row.
            "logged": {name: float(value) for name, value in model.logger.name_to_value.items()},
            "noise": _noise_state(model),
        }
        normalizer = model.get_vec_normalize_env()
        if isinstance(normalizer, TaskNormalize):
            state["normaliser"] = normalizer.statistics()
        return state | {"generators": _generators(model)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called; the replay buffer is filled already."""
        model = self.model
        for name, value in state["counters"].items():
            setattr(model, name, value)
        for name, value in state["last"].items():
            setattr(model, name, value)
        model.replay_buffer.set_state(state["replay"])
        for copy, copy_state in enumerate(state["copies"]):
            model.env.env_method("set_state", copy_state, indices=[copy])
        for name, value in state["logged"].items():
            model.logger.record(name, int(value) if value.is_integer() and "n_updates" in name else value)
        _set_noise_state(model, state["noise"])
        normalizer = model.get_vec_normalize_env()
        if isinstance(normalizer, TaskNormalize):
            normalizer.restore(state["normaliser"])
        # Last, for nothing may draw a number afterwards.
        _set_generators(model, state["generators"])


def _generators(model: OffPolicyAlgorithm) -> dict[str, Any]:
    name, keys, position, has_gauss, cached = np.random.get_state()
    version, words, gauss = random.getstate()
    state = {
        "numpy": {"name": name, "keys": keys, "at": [position, has_gauss, cached]},
        "python": {"version": version, "words": np.array(words, dtype=np.uint64), "gauss": gauss},
        "torch": torch.get_rng_state().numpy(),
        "action_space": model.action_space.np_random.bit_generator.state,
    }
    if model.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(model.device).numpy()
    return state


def _set_generators(model: OffPolicyAlgorithm, state: Mapping[str, Any]) -> None:
    numpy_state, python_state = state["numpy"], state["python"]
    np.random.set_state((numpy_state["name"], numpy_state["keys"], *numpy_state["at"]))
    words = tuple(int(word) for word in python_state["words"])
    random.setstate((python_state["version"], words, python_state["gauss"]))
    torch.set_rng_state(torch.from_numpy(np.array(state["torch"])))
    model.action_space.np_random.bit_generator.state = state["action_space"]
    if model.device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(torch.from_numpy(np.array(state["cuda"])), model.device)


def _noise_state(model: OffPolicyAlgorithm) -> list[Any]:
    """Return what action noise remembers: nothing if it is Gaussian, its last value if it is correlated."""
    noise = model.action_noise
    return [getattr(part, "noise_prev", None) for part in getattr(noise, "noises", [noise])]


def _set_noise_state(model: OffPolicyAlgorithm, state: list[Any]) -> None:
    noise = model.action_noise
    for part, value in zip(getattr(noise, "noises", [noise]), state, strict=False):
        if value is not None:
            part.noise_prev = value
