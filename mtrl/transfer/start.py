"""Gives a new agent what its source has learned, and holds parts of it still for a while."""

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from mtrl.algo.policies import build_policy
from mtrl.algo.replay import TaskReplayBuffer
from mtrl.checkpoint.model import UNREADABLE
from mtrl.checkpoint.state import read_arrays
from mtrl.config.types import OPTIONS, Config, HardwareConfig, load_class, require
from mtrl.env.make import make_evaluation_env
from mtrl.env.metaworld import action_space, observation_space
from mtrl.env.normalize import TaskNormalize
from mtrl.errors import ConfigurationError, DamagedError
from mtrl.evaluation.protocol import evaluate
from mtrl.rundir.models import BUFFER, read_lineage, saved_step
from mtrl.tasks import OBSERVATION_SIZE
from mtrl.transfer import mapping
from mtrl.transfer.mapping import State
from mtrl.transfer.source import MOMENTS, Source, read_source


class Transfer:
    """A transfer that was found to be possible; it changes nothing before ``begin``.

    ``sha256`` is how the content of the source must begin, which the run's directory was named after.

    Raises:
        ConfigurationError: The source cannot be read or does not fit, in one sentence.
    """

    def __init__(self, cfg: Config, sha256: str = "") -> None:
        self.cfg, self.source = cfg, read_source(cfg)
        require(
            self.source.sha256.startswith(sha256),
            f"the source ({cfg.transfer.source}) has changed since this run has begun to start, for it still trains: "
            "start again, or name one of its checkpoints",
        )
        source, files, parts, tasks = self.source, self.source.files, cfg.transfer.parts, cfg.env.tasks
        self.origin = mapping.origins(source.tasks, tasks, cfg.transfer.new_tasks)
        spaces = observation_space(len(tasks), cfg.variant.task_id), action_space()
        policy = build_policy(load_class(cfg.algo.cls), cfg.variant, len(tasks), *spaces)
        own, n_critics = policy.state_dict(), policy.critic.n_critics
        # The networks, and how many of each stand side by side, heads aside.
        copies = {part: 1 if part.startswith("actor") else n_critics for part in mapping.parts_of(own)}
        self.taken = {part: n for part, n in copies.items() if part.split("_")[0] in parts}
        _check_networks(cfg, source, own, copies)
        require(
            not source.normalised or "normalisation" in parts,
            "transfer.parts lacks normalisation, without which the source's networks read other observations: "
            "add it",
        )
        require(
            "replay" not in parts or source.reward in (None, cfg.env.reward),
            f"the source ({cfg.transfer.source}) was paid by reward {source.reward} and this run by "
            f"{cfg.env.reward}: leave replay out of transfer.parts, or set env.reward={source.reward}",
        )
        named = [place if isinstance(place, str) else source.tasks[place] for place in self.origin]
        self.lineage: dict[str, Any] = {
            "named": str(Path(cfg.transfer.source).absolute()),
            "source": str(files.model),
            "sha256": source.sha256,
            "step": saved_step(files),
            "tasks": list(source.tasks),
            "parts": list(parts),
            "origins": dict(zip(tasks, named, strict=True)),
            "lineage": None if files.run is None else _lineage_of(files.run),
        }

    def begin(self, agent: OffPolicyAlgorithm) -> dict[str, Any]:
        """Give the agent what ``transfer.parts`` names, and return the lineage of its weights, as plain values."""
        parts, source, lineage = self.cfg.transfer.parts, self.source, dict(self.lineage)
        # On the processor, where the source is; loading brings it back.
        state = {name: value.cpu() for name, value in agent.policy.state_dict().items()}
        for part, n in self.taken.items():
            state |= mapping.map_state(source.policy, state, part, n, self.origin)
        agent.policy.load_state_dict(state)
        own = getattr(agent, "log_ent_coef", None)
        if "temperature" in parts and source.log_temperature is not None and own is not None:
            theirs = source.log_temperature.to(own.device)
            with torch.no_grad():
                own.copy_(mapping.map_temperatures(theirs, own.detach(), self.origin))
        for part in source.optimisers:
            self._begin_optimiser(getattr(agent, part), part)
        normalizer, given = agent.get_vec_normalize_env(), source.normaliser
        if "normalisation" in parts and isinstance(normalizer, TaskNormalize) and given is not None:
            statistics = normalizer.statistics()
            if normalizer.norm_obs and source.normalised:
                # The columns of the one-hot stay neutral.
                for name in ("observation_mean", "observation_var"):
                    statistics[name][:OBSERVATION_SIZE] = given[name][:OBSERVATION_SIZE]
                statistics["observation_count"] = given["observation_count"]
            if normalizer.norm_reward and bool(given["norm_reward"]):
                statistics |= {name: value for name, value in given.items() if name.startswith("return_")}
            normalizer.restore(statistics)
        if source.transitions is not None:
            try:
                lineage["transitions"] = _begin_replay(agent.replay_buffer, self.cfg, source)
            except (IndexError, *UNREADABLE) as error:
                raise ConfigurationError(
                    f"the replay of {source.files.run} is damaged ({error}): leave replay out"
                ) from error
        if "critic" in parts and getattr(agent, "reward_scaling", None) == "return":
            # Rewards are scaled as the critic has learned them. Last, for transitions reset the statistics.
            scales = source.policy.get("reward_scales", torch.zeros(0)).flatten().tolist()
            known = dict(zip(source.tasks, scales, strict=False))
            for task, name in enumerate(self.cfg.env.tasks):
                if known.get(name, 0.0) > 0:
                    agent.replay_buffer.returns.begin_with(task, known[name] / agent.reward_scale)
        return lineage

    def _begin_optimiser(self, network: torch.nn.Module, part: str) -> None:
        """Give a network's optimiser the source's moments; of tasks that start fresh, 0."""
        own = {f"{part}.{name}": torch.zeros_like(p, device="cpu") for name, p in network.named_parameters()}
        n, (steps, moments) = self.taken[part], self.source.optimisers[part]
        state = {place: {"step": steps} for place in range(len(own))}
        for key, given in zip(MOMENTS, moments, strict=True):
            mapped = mapping.map_state(given, own, part, n, self.origin, moments=True)
            for entry, value in zip(state.values(), mapped.values(), strict=True):
                entry[key] = value
        groups = network.optimizer.state_dict()["param_groups"]
        network.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _lineage_of(run: Path) -> dict[str, Any] | None:
    """Return what a source began with, None if that is more than a chain of runs says: it is written down again."""
    lineage = read_lineage(run)
    try:
        text = json.dumps(lineage)
    except RecursionError:
        return None
    return lineage if len(text) < 2**20 and text.count("{") + text.count("[") < 300 else None


def _check_networks(cfg: Config, source: Source, own: State, copies: dict[str, int]) -> None:
    """Refuse networks that only another algorithm has, or that do not fit the state ``own``: all in one sentence."""
    name, n_tasks, found = f"the source ({cfg.transfer.source})", len(source.tasks), []
    saw, sees = source.normalised, cfg.env.normalize_observations
    if saw != sees:
        forms = ("raw", "normalised")
        what = f"the source saw {forms[saw]} observations and this run sees {forms[sees]} ones"
        found.append((what, {"env.normalize_observations": str(saw).lower()}))
    told = mapping.read_network(source.policy, "actor").inputs > OBSERVATION_SIZE
    for part, n in copies.items():
        least = mapping.inputs_without_task(part)
        theirs, ours = (mapping.read_network(state, part) for state in (source.policy, own))
        # Heads that begin with the first layer are not told the task, though the actor is.
        first = {n, n * n_tasks} if told and theirs.layers and theirs.inputs == least else {n}
        known = theirs.layers and theirs.heads[0] in first and {n, n * n_tasks}.issuperset(theirs.heads)
        outputs = {network.layers[-1].weight.shape[3] for network in (theirs, ours) if network.layers}
        if not known or len(outputs) > 1:
            cls = source.algorithm or "another algorithm"
            theirs_is, ours_is = (path.split(".")[-1] for path in (cls, cfg.algo.cls))
            option = theirs_is.lower()
            fix = f"algo={option}" if option in OPTIONS["algo"] else "its algorithm with algo.cls=..."
            raise ConfigurationError(
                f"{name} was trained with {theirs_is} and this run uses {ours_is}, whose {part} is of another "
                f"form: use {fix}"
            )
        require(
            theirs.inputs in (least, least + n_tasks),
            f"the {part} of {name} takes {theirs.inputs} inputs, which are not Meta-World's {least} and a "
            f"one-hot of {n_tasks}: it was trained on other observations",
        )
        if part in cfg.transfer.parts:
            pair = (mapping.read_network(state, part, n) for state in (source.policy, own))
            found += mapping.mismatches(*pair, part, n_tasks)
    if found:
        fixes = {key: value for _, keys in reversed(found) for key, value in keys.items()}
        # Heads need variant=multihead, which shows the networks the task, too.
        fixes |= {"variant": "multihead"} if any("multihead" in keys.values() for _, keys in found) else {}
        use = " ".join(f"{key}={value}" for key, value in sorted(fixes.items()))
        what = "; ".join(what for what, _ in found)
        raise ConfigurationError(f"this run ({cfg.experiment}) does not fit {name}: {what}: use {use}")


def _begin_replay(replay: TaskReplayBuffer, cfg: Config, source: Source) -> int:
    """Fill a run's new buffer with the source's newest transitions of the tasks of both; return how many."""
    folder, target = source.transitions.path.parents[1] / BUFFER, cfg.env.tasks
    own_ids = np.array([target.index(task) if task in target else -1 for task in source.tasks])
    one_hots = np.eye(len(target), dtype=np.float32)[:, : None if cfg.variant.task_id else 0]
    parts: list[dict[str, NDArray[Any]]] = []
    found = 0
    for segment in reversed(source.transitions.segments):
        rows = read_arrays(folder / segment.name)
        if not all(np.isfinite(values).all() for values in rows.values()):
            raise DamagedError(f"{segment.name} holds NaN or infinity")
        tasks = own_ids[np.asarray(rows["tasks"], dtype=np.int64)]
        keep = tasks >= 0
        part = {name: values[keep] for name, values in rows.items() if name != "previous"}
        part["tasks"] = tasks[keep]
        for name in ("observations", "next_observations"):
            seen = part[name][:, :OBSERVATION_SIZE]
            part[name] = np.concatenate([seen, one_hots[part["tasks"]]], axis=1)
        parts.insert(0, part)
        found += len(part["tasks"])
        if found >= replay.buffer_size:
            break
    kept = min(found, replay.buffer_size)
    if kept:
        rows = {name: np.concatenate([part[name] for part in parts])[-kept:] for name in parts[0]}
        # What lies between two of them may be missing, so no return looks over several of them.
        rows["previous"] = np.zeros(kept, dtype=np.int32)
        replay.restore(0, [rows])
    return kept


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
