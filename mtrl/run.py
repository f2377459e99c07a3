"""One run: environments, agent, and what happens between its updates. ``train`` reads as the method."""

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from mtrl import hardware
from mtrl.agent import make_agent
from mtrl.algo.rollout import OverlappedRollouts
from mtrl.checkpoint import save_model
from mtrl.compose import Composition
from mtrl.config import Config, SACConfig
from mtrl.curriculum import Curriculum, Transition, begin_curriculum
from mtrl.env.factory import choose_backend, make_vec_env
from mtrl.env.normalize import TaskNormalize
from mtrl.evaluation import COLUMNS, Evaluation, evaluate
from mtrl.metrics import Clock, Episodes, Every, Metrics
from mtrl.progress import ProgressView, result_table
from mtrl.recorder import Recorder
from mtrl.records import CsvLog

logger = logging.getLogger(__name__)


class Stop(Exception):  # noqa: N818  (not an error: how a callback ends ``learn`` between two rollouts)
    """Training ends here, at a point where nothing is half done."""


def train(composition: Composition, directory: Recorder) -> Evaluation:
    """Train, evaluate and leave everything in ``directory``; return the last evaluation."""
    cfg = composition.config
    backend = choose_backend(cfg.hardware.backend, cfg.env.tasks, cfg.env.reward)
    chosen = hardware.choose(cfg.hardware, backend)
    directory.start(composition, chosen.as_dict())
    env = make_training_env(cfg, chosen)
    try:
        agent = make_agent(cfg, env, chosen)
        agent.set_logger(Logger(folder=None, output_formats=[]))
        session = Session(cfg, chosen, directory, begin_curriculum(cfg, env))
        try:
            agent.learn(cfg.total_steps, callback=session, log_interval=None)
        except Stop:
            pass
        return session.finish()
    finally:
        env.close()


def make_training_env(cfg: Config, chosen: hardware.Hardware) -> VecEnv:
    """Return the environments that ``cfg`` trains on, normalised where it says so."""
    tasks, copies = cfg.env.tasks, cfg.env.copies_per_task
    if cfg.curriculum.copies is not None:
        # The curriculum hands out the tasks; what a copy is made with does not matter.
        copies = [len(range(task, cfg.n_envs, len(tasks))) for task in range(len(tasks))]
    env = make_vec_env(tasks, copies, **_env_arguments(cfg, chosen), goals="train")
    if cfg.env.normalize_observations or cfg.env.normalize_reward:
        observations, reward = cfg.env.normalize_observations, cfg.env.normalize_reward
        env = TaskNormalize(env, observations=observations, reward=reward, gamma=cfg.algo.gamma)
    return env


def make_evaluation_env(cfg: Config, chosen: hardware.Hardware, goals: str | None = None) -> VecEnv:
    """Return the environments that ``cfg`` is evaluated on: never normalised, never ended by success."""
    arguments = _env_arguments(cfg, chosen) | {"terminate_on_success": False}
    copies = min(cfg.evaluation.copies_per_task, cfg.evaluation.final_episodes)
    return make_vec_env(cfg.env.tasks, copies, **arguments, goals=goals or cfg.evaluation.goals)


def _env_arguments(cfg: Config, chosen: hardware.Hardware) -> dict[str, Any]:
    return {
        "seed": cfg.seed,
        "backend": chosen.backend,
        "horizon": cfg.env.horizon,
        "reward": cfg.env.reward,
        "terminate_on_success": cfg.env.terminate_on_success,
        "task_id": cfg.variant.task_id,
        "workers": chosen.workers,
        "threads": chosen.threads,
    }


@dataclass
class _Best:
    score: tuple[float, float] = (-1.0, -np.inf)


class Session(BaseCallback):
    """What happens around the agent's updates: logs, evaluations, checkpoints, the display, the end.

    Everything that looks at the whole state happens at the start of a rollout: the transition of the last step is
    then in the buffer and the updates that follow it are made, which is not so in the middle of a step.
    """

    model: OffPolicyAlgorithm

    def __init__(
        self,
        cfg: Config,
        chosen: hardware.Hardware,
        directory: Recorder,
        curriculum: Curriculum | None = None,
    ) -> None:
        super().__init__()
        self.cfg, self.chosen, self.directory, self.curriculum = cfg, chosen, directory, curriculum
        self.episodes = Episodes(cfg.env.tasks)
        self.clock = Clock()
        per_task = isinstance(cfg.algo, SACConfig) and cfg.algo.temperature == "per_task"
        self.metrics = Metrics(
            directory.path, cfg.env.tasks, per_task_temperature=per_task, tensorboard=cfg.logging.tensorboard
        )
        self.evaluations = CsvLog(directory.path / "evaluation.csv", COLUMNS)
        self.view = ProgressView(cfg.total_steps, 0, cfg.logging.progress)
        self.best = _Best()
        self.latest: Evaluation | None = None
        self._latest_at = (-1, 0)
        self._log, self._evaluate = Every(cfg.logging.every), Every(cfg.evaluation.every)
        self._save = Every(cfg.checkpoint.every)
        self._saved_at = time.monotonic()
        self._learning_since: float | None = None
        self._learning_seconds = 0.0
        self._evaluation_envs: dict[str, VecEnv] = {}

    def _on_training_start(self) -> None:
        if self.curriculum is None:
            return
        if self.num_timesteps == 0:
            self.curriculum.first_episodes_began(self.training_env)
        elif self.curriculum.stage < self.cfg.curriculum.start_stage:
            stage, why = self.cfg.curriculum.start_stage, "curriculum.start_stage asked for the next"
            self._tell(self.curriculum.go_to(self.training_env, stage, self.num_timesteps, why))
        self._note_curriculum()

    def _on_step(self) -> bool:
        dones = self.locals["dones"]
        if dones.any():
            self.episodes.record(dones, self.locals["infos"])
            if self.curriculum is not None:
                self.curriculum.episodes_ended(self.training_env, dones, self.locals["infos"])
        return True

    def _on_rollout_end(self) -> None:
        self._learning_since = time.perf_counter()

    def _on_rollout_start(self) -> None:
        self._count_learning()
        step = self.num_timesteps
        if self.view.wants_rates():
            self.view.update(step, self.episodes.success_rates())
        if step == 0:
            return
        if self._log.due(step):
            self._write_metrics()
        if self._evaluate.due(step) and step < self.cfg.total_steps:
            self._evaluate_now(self.cfg.evaluation.episodes)
            self._stop_if_solved()
        if self.curriculum is not None:
            self._follow_curriculum(self.curriculum)
        minutes = (time.monotonic() - self._saved_at) / 60
        if self._save.due(step) or minutes >= self.cfg.checkpoint.minutes:
            self._checkpoint()

    def _count_learning(self) -> None:
        """Tell the clock what the updates took: as the learner says, or all the time between two rollouts."""
        if isinstance(self.model, OverlappedRollouts):
            self.clock.add("learning", self.model.learning_seconds - self._learning_seconds)
            self._learning_seconds = self.model.learning_seconds
        elif self._learning_since is not None:
            self.clock.add("learning", time.perf_counter() - self._learning_since)
            self._learning_since = None

    def _follow_curriculum(self, curriculum: Curriculum) -> None:
        """Look at the success where that is due, and go on to the next stage where this one is over."""
        step, success = self.num_timesteps, None
        if curriculum.wants_check(step):
            success = self._measure(curriculum.tasks_to_check, self.cfg.curriculum.check_episodes)
        transition = curriculum.advance(self.training_env, step, success)
        if transition is not None:
            self._tell(transition)
        if success is not None or transition is not None:
            shares = dict(zip(self.cfg.env.tasks, curriculum.rotation.weights, strict=True))
            logger.info("step %d: stage %d, success %s, shares %s", step, curriculum.stage, success, shares)
            shares = {f"share/{task}": share for task, share in shares.items()}
            self.metrics.mirror("curriculum", shares | {"stage": curriculum.stage}, step)
            self._note_curriculum()

    def _measure(self, tasks: Sequence[int], episodes: int) -> dict[int, float]:
        """Return the success rate of some tasks, by id, on the goals that the run trains on."""
        with self.clock.doing("evaluation"):
            env, names = self._evaluation_env("train"), self.cfg.env.tasks
            result = evaluate(self._act, env, names, episodes, "train", only=tasks)
        return {names.index(row.task): row.success_rate for row in result.results}

    def _tell(self, transition: Transition) -> None:
        """Keep the model that a stage ended with, and say why it ended."""
        target = self.directory.checkpoints / f"stage_{transition.ended}"
        save_model(target, self.model, step=transition.step)
        line = f"stage {transition.ended} ended after {transition.steps:,} steps, {transition.why}"
        self.view.say(f"step {transition.step:,}: {line}; stage {transition.begun} begins")
        logger.info("step %d: %s", transition.step, line)
        self.metrics.mirror("curriculum", {"stage": transition.ended}, transition.step - 1)

    def _note_curriculum(self) -> None:
        if self.curriculum is not None:
            curriculum = self.curriculum
            entry = {"stage": curriculum.stage, "stages": len(curriculum.stages), "began": curriculum.began}
            entry |= {"summary": curriculum.summary(), "transitions": curriculum.history}
            self.directory.note("curriculum", entry)

    def _write_metrics(self) -> None:
        stage = None if self.curriculum is None else self.curriculum.stage
        self.metrics.write(self.num_timesteps, self.episodes, self.model.logger, self.clock, stage)
        self.directory.set_step(self.num_timesteps)

    def _evaluate_now(self, episodes: int) -> Evaluation:
        """Evaluate the present policy, write it down, and keep the model if it is the best so far."""
        tasks, goals, step = self.cfg.env.tasks, self.cfg.evaluation.goals, self.num_timesteps
        with self.clock.doing("evaluation"):
            result = evaluate(self._act, self._evaluation_env(goals), tasks, episodes, goals)
        self.latest, self._latest_at = result, (step, episodes)
        rows = [
            {"step": step, **{name: getattr(row, name) for name in COLUMNS[1:]}} for row in result.results
        ]
        self.evaluations.append(rows)
        scalars = {f"success_rate/{row.task}": row.success_rate for row in result.results}
        scalars |= {f"return/{row.task}": row.mean_return for row in result.results}
        means = {"success_rate": result.success_rate, "return": result.mean_return}
        self.metrics.mirror(f"evaluation_{goals}", means | scalars, step)
        if result.score > self.best.score:
            self.best.score = result.score
            save_model(self.directory.checkpoints / "best", self.model, step=step, score=result.score)
        self.view.say(
            f"step {step:,}: success {result.success_rate:.1%}, return {result.mean_return:,.0f} "
            f"over {episodes} episodes a task ({self.clock.seconds:,.0f} s)"
        )
        return result

    def _evaluation_env(self, goals: str) -> VecEnv:
        if goals not in self._evaluation_envs:
            self._evaluation_envs[goals] = make_evaluation_env(self.cfg, self.chosen, goals)
        return self._evaluation_envs[goals]

    def _act(self, obs: np.ndarray) -> np.ndarray:
        normalizer = self.model.get_vec_normalize_env()
        return self.model.predict(
            obs if normalizer is None else normalizer.normalize_obs(obs), deterministic=True
        )[0]

    def _stop_if_solved(self) -> None:
        """End the run once an official evaluation reaches ``stop.success``; a small one only raises the question."""
        enough, official = self.cfg.stop.success, self.cfg.evaluation.final_episodes
        if enough is None or self.latest is None or self.latest.success_rate < enough:
            return
        if self._latest_at[1] < official and self._evaluate_now(official).success_rate < enough:
            return
        self.view.say(f"solved: success {self.latest.success_rate:.1%} is at least stop.success={enough}")
        raise Stop

    def _checkpoint(self) -> None:
        step = self.num_timesteps
        save_model(self.directory.checkpoints / f"step_{step}", self.model, step=step)
        self.directory.keep_newest(self.cfg.checkpoint.keep)
        self._saved_at = time.monotonic()

    def finish(self) -> Evaluation:
        """Make the official evaluation, unless the last one was it, save, and close everything."""
        self._count_learning()
        official = self.cfg.evaluation.final_episodes
        try:
            if self._latest_at != (self.num_timesteps, official):
                self._evaluate_now(official)
            self._write_metrics()
            self._checkpoint()
        finally:
            self.close()
        assert self.latest is not None
        title = f"{self.cfg.experiment} after {self.num_timesteps:,} steps, {self.clock.seconds:,.0f} s"
        Console(file=sys.stdout).print(result_table(self.latest, title))
        if self.curriculum is not None:
            self._note_curriculum()
            Console(file=sys.stdout).print(self.curriculum.summary(), soft_wrap=True)
        self.directory.finish(self.num_timesteps, self.latest)
        return self.latest

    def close(self) -> None:
        """Release the display, the files and the evaluation's environments."""
        self.view.close()
        self.metrics.close()
        for env in self._evaluation_envs.values():
            env.close()


def describe(directory: Path) -> str:
    """Return the line that tells where everything is."""
    return f"run directory: {directory}"
