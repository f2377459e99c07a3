"""Gives a new agent what its source has learned, and holds parts of it still for a while."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from mtrl.algo.policies import build_policy
from mtrl.checkpoint.store import Checkpoint
from mtrl.config.types import OPTIONS, Config, HardwareConfig, load_class, require
from mtrl.env.make import make_evaluation_env
from mtrl.env.metaworld import action_space, observation_space
from mtrl.env.normalize import TaskNormalize
from mtrl.errors import ConfigurationError
from mtrl.evaluation.protocol import evaluate
from mtrl.rundir.models import content, read_lineage, saved_step
from mtrl.tasks import OBSERVATION_SIZE
from mtrl.transfer import mapping
from mtrl.transfer.mapping import Origin, State
from mtrl.transfer.replay import begin_replay, find_transitions
from mtrl.transfer.source import MOMENTS, Source, read_source


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer that was found to be possible."""

    cfg: Config
    source: Source
    origin: tuple[Origin, ...]
    """Where the weights of each task of the run come from."""
    taken: dict[str, int]
    """The networks that are taken over, and how many of each stand side by side, heads aside."""
    lineage: dict[str, Any]
    """Where the weights come from, as plain values."""
    transitions: Checkpoint | None
    """The source's checkpoint whose transitions are taken over; None without ``replay``."""

    def begin(self, agent: OffPolicyAlgorithm) -> dict[str, Any]:
        """Give the agent what ``transfer.parts`` names, and return the lineage of its weights."""
        parts, source, lineage = self.cfg.transfer.parts, self.source, dict(self.lineage)
        # On the processor, where the source is; loading brings it back.
        state = {name: value.cpu() for name, value in agent.policy.state_dict().items()}
        for part, n in self.taken.items():
            state |= mapping.map_state(source.policy, state, part, n, self.origin)
        agent.policy.load_state_dict(state)
        own = getattr(agent, "log_ent_coef", None)
        if "temperature" in parts and source.log_temperature is not None and own is not None:
            given = source.log_temperature.to(own.device)
            with torch.no_grad():
                own.copy_(mapping.map_temperatures(given, own.detach(), self.origin))
        for part, (steps, moments) in source.optimisers.items():
            if part in parts:
                self._begin_optimiser(getattr(agent, part), part, steps, moments)
        if "normalisation" in parts:
            self._begin_normaliser(agent.get_vec_normalize_env())
        if self.transitions is not None:
            tasks, told = self.cfg.env.tasks, self.cfg.variant.task_id
            lineage["transitions"] = begin_replay(
                agent.replay_buffer, self.transitions, source.tasks, tasks, task_id=told
            )
        if "critic" in parts and getattr(agent, "reward_scaling", None) == "return":
            # Rewards are scaled as the critic has learned them. Last, for transitions reset the statistics.
            scales = source.policy.get("reward_scales", torch.zeros(0)).flatten().tolist()
            known = dict(zip(source.tasks, scales, strict=False))
            for task, name in enumerate(self.cfg.env.tasks):
                if known.get(name, 0.0) > 0:
                    agent.replay_buffer.returns.begin_with(task, known[name] / agent.reward_scale)
        return lineage

    def _begin_optimiser(
        self, network: torch.nn.Module, part: str, steps: object, moments: list[State]
    ) -> None:
        """Give a network's optimiser the source's moments; of tasks that start fresh, 0."""
        own = {f"{part}.{name}": torch.zeros_like(p, device="cpu") for name, p in network.named_parameters()}
        n, state = self.taken[part], {place: {"step": steps} for place in range(len(own))}
        for key, given in zip(MOMENTS, moments, strict=True):
            mapped = mapping.map_state(given, own, part, n, self.origin, moments=True)
            for entry, value in zip(state.values(), mapped.values(), strict=True):
                entry[key] = value
        groups = network.optimizer.state_dict()["param_groups"]
        network.optimizer.load_state_dict({"state": state, "param_groups": groups})

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


def prepare_transfer(cfg: Config) -> Transfer | None:
    """Return the transfer that a run starts with, None without one; nothing is changed yet.

    Raises:
        ConfigurationError: The source cannot be read or does not fit, in one sentence.
    """
    if cfg.transfer.source is None:
        return None
    source, parts, tasks = read_source(cfg), cfg.transfer.parts, cfg.env.tasks
    files, name = source.files, f"the source ({cfg.transfer.source})"
    # A zip that was not told its tasks has nothing that depends on them.
    origin = (mapping.FRESH,) * len(tasks)
    if source.tasks:
        origin = mapping.origins(source.tasks, tasks, cfg.transfer.new_tasks)
    spaces = observation_space(len(tasks), cfg.variant.task_id), action_space()
    policy = build_policy(load_class(cfg.algo.cls), cfg.variant, len(tasks), *spaces)
    transitions = find_transitions(files) if "replay" in parts else None
    own, n_critics = policy.state_dict(), policy.critic.n_critics
    copies = {part: 1 if part.startswith("actor") else n_critics for part in mapping.parts_of(own)}
    taken = {part: n for part, n in copies.items() if part.split("_")[0] in parts}
    for part, n in copies.items():
        _check_algorithm(cfg, source, name, own, part, n)
    _check_networks(cfg, source, name, own, taken)
    require(
        not source.normalised or "normalisation" in parts,
        "transfer.parts lacks normalisation, without which the source's networks read other observations: add it",
    )
    require(
        "replay" not in parts or source.reward in (None, cfg.env.reward),
        f"{name} was paid by reward {source.reward} and this run by {cfg.env.reward}: "
        f"leave replay out of transfer.parts, or set env.reward={source.reward}",
    )
    named = [place if isinstance(place, str) else source.tasks[place] for place in origin]
    lineage = {
        "named": str(Path(cfg.transfer.source).absolute()),
        "source": str(files.model),
        "sha256": content(files),
        "step": saved_step(files),
        "tasks": list(source.tasks),
        "parts": list(parts),
        "origins": dict(zip(tasks, named, strict=True)),
        "lineage": None if files.run is None else read_lineage(files.run),
    }
    return Transfer(cfg, source, origin, taken, lineage, transitions)


def _check_algorithm(cfg: Config, source: Source, name: str, own: State, part: str, n: int) -> None:
    """Refuse a source whose networks only another algorithm has."""
    least = mapping.inputs_without_task(part)
    theirs, ours = (mapping.read_network(state, part) for state in (source.policy, own))
    # Heads that begin with the first layer are not told the task, though the actor is.
    told = mapping.read_network(source.policy, "actor").inputs > OBSERVATION_SIZE
    copies = {n, n * len(source.tasks)} if told and theirs.layers and theirs.inputs == least else {n}
    outputs = {network.layers[-1].weight.shape[3] for network in (theirs, ours) if network.layers}
    if not theirs.layers or theirs.heads[0] not in copies or len(outputs) > 1:
        cls = source.algorithm or "another algorithm"
        theirs_is, ours_is = (path.split(".")[-1] for path in (cls, cfg.algo.cls))
        known = theirs_is.lower() in OPTIONS["algo"]
        fix = f"algo={theirs_is.lower()}" if known else "its algorithm with algo.cls=..."
        raise ConfigurationError(
            f"{name} was trained with {theirs_is} and this run uses {ours_is}, whose {part} is of another form: "
            f"use {fix}"
        )
    require(
        theirs.inputs in (least, least + len(source.tasks)),
        f"the {part} of {name} takes {theirs.inputs} inputs, which are not Meta-World's {least} and a "
        f"one-hot of {len(source.tasks)}: it was trained on other observations",
    )


def _check_networks(cfg: Config, source: Source, name: str, own: State, taken: dict[str, int]) -> None:
    """Refuse networks that do not fit those of the state ``own``, with all that differs in one sentence."""
    found = []
    saw, sees = source.normalised, cfg.env.normalize_observations
    if saw != sees:
        forms = ("raw", "normalised")
        what = f"the source saw {forms[saw]} observations and this run sees {forms[sees]} ones"
        found.append((what, {"env.normalize_observations": str(saw).lower()}))
    for part, n in taken.items():
        if not part.endswith("_target"):
            networks = (mapping.read_network(state, part, n) for state in (source.policy, own))
            found += mapping.mismatches(*networks, part, len(source.tasks))
    if found:
        fixes = {key: value for _, keys in reversed(found) for key, value in keys.items()}
        # Heads need variant=multihead, which shows the networks the task, too.
        fixes |= {"variant": "multihead"} if any("multihead" in keys.values() for _, keys in found) else {}
        use = " ".join(f"{key}={value}" for key, value in sorted(fixes.items()))
        what = "; ".join(what for what, _ in found)
        raise ConfigurationError(f"this run ({cfg.experiment}) does not fit {name}: {what}: use {use}")


def freeze(cfg: Config, agent: OffPolicyAlgorithm) -> None:
    """Hold each part still until the environment steps of ``transfer.freeze_steps`` have passed.

    The update must not be compiled, which the check of the configuration sees to.
    """

    def after(steps: int, step: Callable[..., None]) -> Callable[..., None]:
        return lambda *arguments: step(*arguments) if agent.num_timesteps >= steps else None

    optimisers = {"actor": agent.actor.optimizer, "critic": agent.critic.optimizer}
    optimisers["temperature"] = getattr(agent, "ent_coef_optimizer", None)
    for part, optimiser in optimisers.items():
        steps = int(cfg.transfer.freeze_steps.get(part, 0))
        if steps and optimiser is not None:
            optimiser.step = after(steps, optimiser.step)


def source_success(
    cfg: Config,
    machine: HardwareConfig,
    agent: OffPolicyAlgorithm,
    lineage: Mapping[str, Any],
    check: Callable[[], None],
) -> dict[str, float]:
    """Return the success rate of ``agent`` on each task of its source, which shows what it has forgotten.

    A task that the run does not have is played with the one-hot of the first task that began as that one; a
    task that none began as is left out. ``check`` is called at every step and may raise.
    """
    tasks, played = cfg.env.tasks, {}
    for task in lineage["tasks"]:
        begun = [place for place, name in enumerate(tasks) if lineage["origins"][name] == task]
        if begun:
            played[task] = tasks.index(task) if task in tasks else begun[0]
    if not played:
        return {}
    names, one_hots = list(played), np.eye(len(tasks), dtype=np.float32)[list(played.values())]
    normalizer = agent.get_vec_normalize_env()

    def act(obs: NDArray[np.float32]) -> NDArray[np.float32]:
        check()
        seen = obs[:, :OBSERVATION_SIZE]
        if cfg.variant.task_id:
            seen = np.concatenate([seen, one_hots[obs[:, OBSERVATION_SIZE:].argmax(1)]], axis=1)
        if normalizer is not None:
            seen = normalizer.normalize_obs(seen)
        return agent.predict(seen, deterministic=True)[0]

    with closing(make_evaluation_env(cfg, machine, tasks=names)) as env:
        result = evaluate(act, env, names, cfg.evaluation.final_episodes, cfg.evaluation.goals)
    return {row.task: row.success_rate for row in result.results}
