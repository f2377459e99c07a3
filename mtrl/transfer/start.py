"""Gives a new agent what its source has learned, and holds parts of it still for a while."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from mtrl.algo.policies import build_policy
from mtrl.checkpoint.store import Checkpoint
from mtrl.config.types import OPTIONS, Config, load_class
from mtrl.env.make import make_evaluation_env
from mtrl.env.metaworld import action_space, observation_space
from mtrl.env.normalize import TaskNormalize
from mtrl.errors import ConfigurationError
from mtrl.evaluation.protocol import evaluate
from mtrl.hardware import Hardware
from mtrl.tasks import OBSERVATION_SIZE
from mtrl.transfer.mapping import (
    FRESH,
    Network,
    Origin,
    State,
    inputs_without_task,
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


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer that was found to be possible."""

    cfg: Config
    source: Source
    origin: tuple[Origin, ...]
    """Where the weights of each task of the run come from."""
    n_critics: int
    """Critics of the run, and of the source, without their heads."""
    transitions: Checkpoint | None
    """The source's checkpoint whose transitions are taken over; None without ``replay``."""

    def begin(self, agent: OffPolicyAlgorithm) -> dict[str, Any]:
        """Give the agent what ``transfer.parts`` names, and return the lineage of its weights."""
        parts, source = self.cfg.transfer.parts, self.source
        # On the processor, where the source is; loading brings it back.
        state = {name: value.cpu() for name, value in agent.policy.state_dict().items()}
        for part, theirs, ours in self.networks(state):
            state |= write_network(map_network(theirs, ours, self.origin, part), state, part)
        agent.policy.load_state_dict(state)
        own = getattr(agent, "log_ent_coef", None)
        if "temperature" in parts and source.log_temperature is not None and own is not None:
            with torch.no_grad():
                own.copy_(map_temperatures(source.log_temperature.to(own.device), own.detach(), self.origin))
        if "optimiser" in parts:
            self._begin_optimisers(agent)
        if "normalisation" in parts:
            self._begin_normaliser(agent.get_vec_normalize_env())
        lineage = self._lineage()
        if self.transitions is not None:
            tasks, task_id = self.cfg.env.tasks, self.cfg.variant.task_id
            lineage["transitions"] = begin_replay(
                agent.replay_buffer, self.transitions, source.tasks, tasks, task_id=task_id
            )
        if "critic" in parts and getattr(agent, "reward_scaling", None) == "return":
            # Last, for transitions that are taken over reset the statistics.
            self._begin_returns(agent)
        return lineage

    def networks(self, own: State) -> Iterator[tuple[str, Network, Network]]:
        """Yield each network that is taken over: its name, the source's, and the run's in the state ``own``."""
        for part in parts_of(own):
            if part.split("_")[0] in self.cfg.transfer.parts:
                n = self._copies(part)
                yield part, read_network(self.source.policy, part, n), read_network(own, part, n)

    def _copies(self, part: str) -> int:
        return 1 if part.startswith("actor") else self.n_critics

    def check(self, own: State) -> None:
        """Refuse networks that do not fit those of the state ``own``, with all that differs in one sentence."""
        for part in parts_of(own):
            self._check_algorithm(own, part)
        found = []
        saw, sees = self.source.normalised, self.cfg.env.normalize_observations
        if saw != sees:
            forms = ("raw", "normalised")
            what = f"the source saw {forms[saw]} observations and this run sees {forms[sees]} ones"
            found.append((what, {"env.normalize_observations": str(saw).lower()}))
        for part, theirs, ours in self.networks(own):
            if not part.endswith("_target"):
                found += mismatches(theirs, ours, part, len(self.source.tasks))
        if found:
            # Heads need variant=multihead, which shows the networks the task, too.
            fixes = {key: value for _, keys in reversed(found) for key, value in keys.items()}
            if any(keys.get("variant") == "multihead" for _, keys in found):
                fixes["variant"] = "multihead"
            use = " ".join(f"{key}={value}" for key, value in sorted(fixes.items()))
            raise ConfigurationError(
                f"this run ({self.cfg.experiment}) does not fit {self.source.name}: "
                f"{'; '.join(what for what, _ in found)}: use {use}"
            )

    def _check_algorithm(self, own: State, part: str) -> None:
        """Refuse a source whose networks only another algorithm has."""
        source, n, least = self.source, self._copies(part), inputs_without_task(part)
        theirs, ours = read_network(source.policy, part), read_network(own, part)
        # Heads that begin with the first layer are not told the task, though the actor is.
        told = read_network(source.policy, "actor").inputs > OBSERVATION_SIZE
        copies = {n, n * len(source.tasks)} if told and theirs.layers and theirs.inputs == least else {n}
        alike = theirs.layers and theirs.heads[0] in copies and theirs.outputs == ours.outputs
        if not alike:
            cls = source.algorithm or "another algorithm"
            name, use = (path.split(".")[-1] for path in (cls, self.cfg.algo.cls))
            fix = (
                f"algo={name.lower()}"
                if name.lower() in OPTIONS["algo"]
                else "its algorithm with algo.cls=..."
            )
            raise ConfigurationError(
                f"{source.name} was trained with {name} and this run uses {use}, whose {part} is of another form: "
                f"use {fix}"
            )
        if theirs.inputs not in (least, least + len(source.tasks)):
            raise ConfigurationError(
                f"the {part} of {source.name} takes {theirs.inputs} inputs, which are not Meta-World's {least} and a "
                f"one-hot of {len(source.tasks)}: it was trained on other observations"
            )

    def _begin_optimisers(self, agent: OffPolicyAlgorithm) -> None:
        for part in ("actor", "critic"):
            given = self.source.optimisers.get(f"{part}.optimizer")
            if part in self.cfg.transfer.parts and given is not None:
                network, n = getattr(agent, part), self._copies(part)
                state = map_optimiser(given, self.source.policy, network, self.origin, part, n)
                network.optimizer.load_state_dict(state)

    def _begin_normaliser(self, normalizer: object) -> None:
        given = self.source.normaliser
        if not isinstance(normalizer, TaskNormalize) or given is None:
            return
        state = normalizer.statistics()
        if normalizer.norm_obs and self.source.normalised:
            # The columns of the one-hot stay neutral.
            for name in ("observation_mean", "observation_var"):
                state[name][:OBSERVATION_SIZE] = given[name][:OBSERVATION_SIZE]
            state["observation_count"] = given["observation_count"]
        if normalizer.norm_reward and bool(given["norm_reward"]):
            state |= {name: value for name, value in given.items() if name.startswith("return_")}
        normalizer.restore(state)

    def _begin_returns(self, agent: OffPolicyAlgorithm) -> None:
        """Scale the rewards of the source's tasks as its critic has learned them."""
        factors = self.source.policy.get("reward_scales", torch.zeros(0)).flatten().tolist()
        known = dict(zip(self.source.tasks, factors, strict=False))
        for task, name in enumerate(self.cfg.env.tasks):
            if known.get(name, 0.0) > 0:
                agent.replay_buffer.returns.begin_with(task, known[name] / agent.reward_scale)

    def _lineage(self) -> dict[str, Any]:
        """Return where the weights come from, as plain values."""
        source = self.source
        named = [place if isinstance(place, str) else source.tasks[place] for place in self.origin]
        return {
            "named": str(Path(str(self.cfg.transfer.source)).absolute()),
            "source": str(source.files.model),
            "sha256": source.content,
            "step": source.step,
            "tasks": list(source.tasks),
            "parts": list(self.cfg.transfer.parts),
            "origins": dict(zip(self.cfg.env.tasks, named, strict=True)),
            "lineage": source.lineage,
        }


def prepare_transfer(cfg: Config) -> Transfer | None:
    """Return the transfer that a run starts with, None without one; nothing is changed yet.

    Raises:
        ConfigurationError: The source cannot be read or does not fit, in one sentence.
    """
    if cfg.transfer.source is None:
        return None
    source, parts, tasks = read_source(cfg), cfg.transfer.parts, cfg.env.tasks
    # A zip that was not told its tasks has nothing that depends on them.
    origin = origins(source.tasks, tasks, cfg.transfer.new_tasks) if source.tasks else (FRESH,) * len(tasks)
    spaces = observation_space(len(tasks), cfg.variant.task_id), action_space()
    policy = build_policy(load_class(cfg.algo.cls), cfg.variant, len(tasks), *spaces)
    transitions = find_transitions(source.files) if "replay" in parts else None
    transfer = Transfer(cfg, source, origin, policy.critic.n_critics, transitions)
    transfer.check(policy.state_dict())
    if source.normalised and "normalisation" not in parts:
        raise ConfigurationError(
            "transfer.parts lacks normalisation, without which the source's networks read other observations: add it"
        )
    if "replay" in parts and source.reward not in (None, cfg.env.reward):
        raise ConfigurationError(
            f"{source.name} was paid by reward {source.reward} and this run by {cfg.env.reward}: "
            f"leave replay out of transfer.parts, or set env.reward={source.reward}"
        )
    return transfer


def freeze(cfg: Config, agent: OffPolicyAlgorithm) -> None:
    """Hold each part still until the environment steps of ``transfer.freeze_steps`` have passed.

    The update must not be compiled, which the check of the configuration sees to.
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


def source_success(
    cfg: Config,
    machine: Hardware,
    agent: OffPolicyAlgorithm,
    lineage: Mapping[str, Any],
    check: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Return the success rate of ``agent`` on each task of its source, which shows what it has forgotten.

    A task that the run does not have is played with the one-hot of the first task that began as that one; a
    task that none began as is left out. ``check`` is called at every step and may raise.
    """
    ids = {task: _id_for(task, cfg.env.tasks, lineage["origins"]) for task in lineage["tasks"]}
    played = {task: place for task, place in ids.items() if place is not None}
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

    env = make_evaluation_env(cfg, machine, tasks=names)
    try:
        result = evaluate(act, env, names, cfg.evaluation.final_episodes, cfg.evaluation.goals)
    finally:
        env.close()
    return {row.task: row.success_rate for row in result.results}


def _id_for(task: str, tasks: list[str], origins: Mapping[str, str]) -> int | None:
    """Return the id of the run's task as which to play ``task``."""
    if task in tasks:
        return tasks.index(task)
    return next((place for place, name in enumerate(tasks) if origins[name] == task), None)
