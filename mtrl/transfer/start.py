"""Gives a new agent the weights of a source, and holds parts of it still for a while."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import stable_baselines3
import torch
from numpy.typing import NDArray
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from mtrl.algo.policies import build_policy
from mtrl.config import Config
from mtrl.config.types import load_class
from mtrl.env.make import make_evaluation_env
from mtrl.env.metaworld import action_space, observation_space
from mtrl.env.normalize import TaskNormalize
from mtrl.errors import ConfigurationError
from mtrl.evaluation.protocol import evaluate
from mtrl.hardware import Hardware
from mtrl.tasks import OBSERVATION_SIZE
from mtrl.transfer.mapping import (
    FRESH,
    Mismatch,
    Origin,
    Side,
    State,
    check_algorithm,
    map_columns,
    map_network,
    map_optimiser,
    map_temperatures,
    mismatches,
    origins,
    parts_of,
    read_network,
    write_network,
)
from mtrl.transfer.replay import begin_replay, find_transitions
from mtrl.transfer.source import Source, read_source


def source_success(
    cfg: Config,
    chosen: Hardware,
    agent: OffPolicyAlgorithm,
    lineage: Mapping[str, Any],
    check: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Return the success rate of ``agent`` on each task of its source.

    A task that the run does not have is played with the one-hot of the first task that began as that one; a
    task that none began as is left out. ``check`` is called at every step and may raise.
    """
    asked = {task: _stand_in(task, cfg.env.tasks, lineage["origins"]) for task in lineage["tasks"]}
    played = {task: place for task, place in asked.items() if place is not None}
    if not played:
        return {}
    names, places = list(played), np.array(list(played.values()))
    one_hots = np.eye(len(cfg.env.tasks), dtype=np.float32)
    normalizer = agent.get_vec_normalize_env()

    def act(obs: NDArray[np.float32]) -> NDArray[np.float32]:
        check()
        seen = obs[:, :OBSERVATION_SIZE]
        if cfg.variant.task_id:
            seen = np.concatenate([seen, one_hots[places[obs[:, OBSERVATION_SIZE:].argmax(1)]]], axis=1)
        if normalizer is not None:
            seen = normalizer.normalize_obs(seen)
        return agent.predict(seen, deterministic=True)[0]

    env = make_evaluation_env(cfg, chosen, tasks=names)
    try:
        result = evaluate(act, env, names, cfg.evaluation.final_episodes, cfg.evaluation.goals)
    finally:
        env.close()
    return {row.task: row.success_rate for row in result.results}


def _stand_in(task: str, tasks: list[str], origins: Mapping[str, str]) -> int | None:
    """Return the id of the run's task as which to play ``task``."""
    if task in tasks:
        return tasks.index(task)
    return next((place for place, name in enumerate(tasks) if origins[name] == task), None)


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer that was found to be possible."""

    cfg: Config
    source: Source
    side: Side
    """The run's own side."""
    origin: tuple[Origin, ...]
    """Where the weights of each task of the run come from."""

    def weights(self, own: State, parts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return the source's weights of ``parts`` as entries of a policy's ``state_dict`` like ``own``."""
        mapped: dict[str, torch.Tensor] = {}
        for part in parts_of(own):
            if part.split("_")[0] not in parts:
                continue
            ours, theirs = read_network(own, part), read_network(self.source.policy, part)
            sides, n = (self.source.side, self.side, self.origin), self._stack(part)
            network = map_network(theirs, ours, *sides, part=part, n=n)
            mapped |= write_network(network, own, part)
        return mapped

    def check(self, own: State, parts: Sequence[str]) -> None:
        """Refuse networks that do not fit, all that differs at once.

        Raises:
            ConfigurationError: The source's networks of ``parts`` do not fit ``own``; both sides are named.
        """
        found = list(_normalisation_mismatches(self.cfg, self.source))
        for part in parts_of(own):
            if part.split("_")[0] not in parts:
                continue
            if part not in parts_of(self.source.policy):
                raise ConfigurationError(
                    f"{self.source.side.name} has no {part} and {self.side.name} does, for they are of "
                    "different algorithms: use the source's with algo=..."
                )
            ours, theirs = read_network(own, part), read_network(self.source.policy, part)
            check_algorithm(theirs, ours, self.source.side, self.side, part, self._stack(part))
            if part in ("actor", "critic"):
                found += mismatches(theirs, ours, self.source.side, part, self._stack(part))
        if found:
            # Heads need the variant that has them, which tells the task, too.
            mends = {key: value for mismatch in reversed(found) for key, value in mismatch.mends.items()}
            if any(mismatch.mends.get("variant") == "multihead" for mismatch in found):
                mends["variant"] = "multihead"
            said = "; ".join(mismatch.what for mismatch in found)
            use = " ".join(f"{key}={value}" for key, value in sorted(mends.items()))
            raise ConfigurationError(
                f"{self.side.name} does not fit {self.source.side.name}: {said}: use {use}"
            )

    def _stack(self, part: str) -> int:
        """Return how many networks, heads aside, a part consists of."""
        one = part.startswith("actor") or issubclass(load_class(self.cfg.algo.cls), stable_baselines3.DDPG)
        return 1 if one else 2

    def begin(self, agent: OffPolicyAlgorithm) -> dict[str, Any]:
        """Give the agent what ``transfer.parts`` names, and return the lineage of its weights."""
        parts = self.cfg.transfer.parts
        # On the processor, where the source is; loading brings it back.
        state = {name: value.cpu() for name, value in agent.policy.state_dict().items()}
        mapped = self.weights(state, parts)
        agent.policy.load_state_dict({**state, **mapped})
        given, own = self.source.log_temperature, getattr(agent, "log_ent_coef", None)
        if "temperature" in parts and given is not None and own is not None:
            with torch.no_grad():
                own.copy_(map_temperatures(given.to(own.device), own.detach(), self.origin))
        if "optimiser" in parts:
            self._begin_optimisers(agent)
        if "normalisation" in parts:
            self._begin_normaliser(agent)
        lineage = self.lineage()
        if "replay" in parts:
            tasks, files = self.source.side.tasks, self.source.files
            lineage["transitions"] = begin_replay(
                agent.replay_buffer, files, tasks, self.side.tasks, self.side.task_id
            )
        return lineage

    def _begin_optimisers(self, agent: OffPolicyAlgorithm) -> None:
        for part in ("actor", "critic"):
            given = self.source.optimisers.get(f"{part}.optimizer")
            if part in self.cfg.transfer.parts and given is not None:
                sides = (self.source.side, self.side, self.origin)
                network = getattr(agent, part)
                n = self._stack(part)
                state = map_optimiser(given, self.source.policy, network, *sides, part=part, n=n)
                network.optimizer.load_state_dict(state)

    def _begin_normaliser(self, agent: OffPolicyAlgorithm) -> None:
        normalizer, given = agent.get_vec_normalize_env(), self.source.normaliser
        if not isinstance(normalizer, TaskNormalize) or given is None:
            return
        state = normalizer.statistics()
        if normalizer.norm_obs and bool(given["norm_obs"]):
            for name in ("observation_mean", "observation_var"):
                tensors = {name: torch.from_numpy(np.array(given[name]))}
                state[name] = map_columns(tensors, torch.from_numpy(state[name]), name).numpy()
            state["observation_count"] = given["observation_count"]
        if normalizer.norm_reward and bool(given["norm_reward"]):
            state |= {name: value for name, value in given.items() if name.startswith("return_")}
        normalizer.restore(state)

    def lineage(self) -> dict[str, Any]:
        """Return where the weights come from, as plain values."""
        source, tasks = self.source, self.source.side.tasks
        named = [place if isinstance(place, str) else tasks[place] for place in self.origin]
        return {
            "named": str(Path(str(self.cfg.transfer.source)).absolute()),
            "source": str(source.files.model),
            "sha256": source.content,
            "step": source.step,
            "tasks": list(tasks),
            "parts": list(self.cfg.transfer.parts),
            "origins": dict(zip(self.side.tasks, named, strict=True)),
            "lineage": source.lineage,
        }


def prepare_transfer(cfg: Config) -> Transfer | None:
    """Return the transfer that a run starts with, None without one; nothing is changed yet.

    Raises:
        ConfigurationError: The source cannot be read or does not fit, in one sentence.
    """
    if cfg.transfer.source is None:
        return None
    source = read_source(cfg)
    _check_algorithm(cfg, source)
    tasks = tuple(cfg.env.tasks)
    side = Side(f"this run ({cfg.experiment})", tasks, cfg.variant.task_id)
    # A zip that was not told its tasks has nothing that depends on them.
    known = source.side.tasks
    origin = origins(known, tasks, cfg.transfer.new_tasks) if known else [FRESH] * len(tasks)
    transfer = Transfer(cfg, source, side, tuple(origin))
    own = _initial_state(cfg)
    transfer.check(own, cfg.transfer.parts)
    _check_normalisation(cfg, source)
    transfer.weights(own, cfg.transfer.parts)
    if "replay" in cfg.transfer.parts:
        _check_reward(cfg, source)
        find_transitions(source.files)
    return transfer


def _check_algorithm(cfg: Config, source: Source) -> None:
    theirs, ours = (source.algorithm or "").split(".")[-1], cfg.algo.cls.split(".")[-1]
    if theirs and theirs != ours:
        raise ConfigurationError(
            f"{source.side.name} was trained with {theirs} and this run uses {ours}: "
            f"use algo={theirs.lower()}"
        )


def _normalisation_mismatches(cfg: Config, source: Source) -> Iterator[Mismatch]:
    theirs = _saw_normalised(source)
    if theirs != cfg.env.normalize_observations:
        says = ("raw", "normalised") if theirs else ("normalised", "raw")
        what = f"the source saw {says[1]} observations and this run sees {says[0]} ones"
        yield Mismatch(what, {"env.normalize_observations": str(theirs).lower()})


def _saw_normalised(source: Source) -> bool:
    return source.normaliser is not None and bool(source.normaliser["norm_obs"])


def _check_normalisation(cfg: Config, source: Source) -> None:
    if _saw_normalised(source) and "normalisation" not in cfg.transfer.parts:
        raise ConfigurationError(
            "transfer.parts lacks normalisation, without which the source's networks read other "
            "observations: add it"
        )


def _check_reward(cfg: Config, source: Source) -> None:
    if source.reward not in (None, cfg.env.reward):
        raise ConfigurationError(
            f"{source.side.name} was paid by reward {source.reward} and this run by {cfg.env.reward}: "
            f"leave replay out of transfer.parts, or set env.reward={source.reward}"
        )


def _initial_state(cfg: Config) -> State:
    """Return the ``state_dict`` that this run's policy begins with, without its environments."""
    n_tasks = len(cfg.env.tasks)
    spaces = observation_space(n_tasks, cfg.variant.task_id), action_space()
    return build_policy(load_class(cfg.algo.cls), cfg.variant, n_tasks, *spaces).state_dict()


def freeze(cfg: Config, agent: OffPolicyAlgorithm) -> None:
    """Hold each part still until the environment steps of ``transfer.freeze_steps`` have passed.

    The update must not be compiled, which ``mtrl.checks`` sees to.
    """
    optimisers = {
        "actor": agent.actor.optimizer,
        "critic": agent.critic.optimizer,
        "temperature": getattr(agent, "ent_coef_optimizer", None),
    }
    for part, optimiser in optimisers.items():
        steps = int(cfg.transfer.freeze_steps.get(part, 0))
        if steps and optimiser is not None:
            optimiser.step = _after(steps, agent, optimiser.step)


def _after(steps: int, agent: OffPolicyAlgorithm, step: Callable[..., None]) -> Callable[..., None]:
    def wait_or_step(*arguments: object) -> None:
        if agent.num_timesteps >= steps:
            step(*arguments)

    return wait_or_step
