"""What happens around the agent's updates: logs, evaluations, checkpoints, the display, the end."""

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from mtrl.algo.finite import check_finite
from mtrl.algo.rollout import OverlappedRollouts
from mtrl.algo.sac import record_q_value
from mtrl.checkpoint.model import save_model
from mtrl.checkpoint.state import Stateful
from mtrl.checkpoint.store import Checkpoint, Store
from mtrl.config import CheckpointConfig, Config, SACConfig
from mtrl.curriculum.curriculum import Curriculum, Transition
from mtrl.env.make import make_evaluation_env
from mtrl.errors import CheckpointFailedError, Preempted
from mtrl.evaluation.protocol import COLUMNS, Act, Evaluation, TaskResult, evaluate
from mtrl.hardware import Hardware
from mtrl.rundir.write import CsvLog
from mtrl.signals import Signals
from mtrl.training.display import ProgressView, result_table
from mtrl.training.metrics import Clock, Episodes, Every, Metrics
from mtrl.training.record import Recorder
from mtrl.training.tracker import make_tracker

logger = logging.getLogger(__name__)

MAX_FAILURES = 3
"""Attempts in a row to save everything, logs and checkpoint, that may fail before the run ends."""


class Saver:
    """Saves everything a run needs to go on.

    Args:
        cfg: When.
        store: Where the checkpoints lie.
        directory: The run directory, told of each checkpoint.
        logs: What else is written there, before each checkpoint.
        sections: What a checkpoint holds beside the agent, by name.
    """

    def __init__(
        self,
        cfg: CheckpointConfig,
        store: Store,
        directory: Recorder,
        logs: Sequence[CsvLog],
        sections: Mapping[str, Stateful],
    ) -> None:
        self.every = Every(cfg.every)
        self._minutes = cfg.minutes
        self._store, self._directory, self._sections = store, directory, sections
        self._written: list[CsvLog | Recorder] = [*logs, directory]
        self._saved_at = time.monotonic()
        self._failures = 0

    def restore(self, checkpoint: Checkpoint, agent: OffPolicyAlgorithm) -> None:
        """Set ``agent`` and the sections to what ``checkpoint`` holds."""
        self._store.restore(checkpoint, agent, self._sections)

    def is_due(self, step: int, *, logged: bool) -> bool:
        """Tell whether to save at ``step``: by steps, by minutes, or again after a failure.

        Args:
            step: Environment steps so far.
            logged: Whether a row of metrics.csv was written at this step; what failed is tried again at each,
                for the disk may have room again.
        """
        again = logged and (self._failures > 0 or any(log.waits for log in self._written))
        minutes = (time.monotonic() - self._saved_at) / 60
        return self.every.due(step) or again or minutes >= self._minutes

    def save(self, model: OffPolicyAlgorithm) -> bool:
        """Save everything, and tell whether that succeeded; the last of several failures in a row is raised.

        Raises:
            CheckpointFailedError: Nothing could be saved for too long.
        """
        try:
            # First the logs: a checkpoint tells how long they are, and rows that wait end with this process.
            for log in self._written:
                log.write()
            self._store.save(model, self._sections)
            self._directory.set_checkpoint(model.num_timesteps)
        except OSError as error:
            self._failures += 1
            logger.warning("step %d: nothing could be saved (%s)", model.num_timesteps, error)
            if self._failures >= MAX_FAILURES:
                raise CheckpointFailedError(
                    f"nothing could be saved {MAX_FAILURES} times in a row ({error}): make room on the disk"
                ) from error
            return False
        self._failures = 0
        self._saved_at = time.monotonic()
        return True


class Examiner:
    """Evaluates the policy that is being trained, on environments of its own.

    Args:
        cfg: The run's configuration.
        chosen: What it uses of the machine.
        directory: Where it is written down.
        signals: An evaluation ends, without a trace, when a signal comes.
    """

    def __init__(self, cfg: Config, chosen: Hardware, directory: Recorder, signals: Signals) -> None:
        self.cfg, self.chosen, self.signals = cfg, chosen, signals
        self.log = CsvLog(directory.path / "evaluation.csv", COLUMNS)
        self.best = (-1.0, -np.inf)
        self.latest: Evaluation | None = None
        self.latest_at = (-1, 0)
        """Step and episodes per task of the latest evaluation."""
        self._best_path = directory.checkpoints / "best"
        self._envs: dict[str, VecEnv] = {}

    def examine(self, model: OffPolicyAlgorithm, episodes: int) -> Evaluation:
        """Evaluate ``model``, write it down, and keep it if it is the best so far.

        Raises:
            Preempted: A signal came.
        """
        tasks, goals, step = self.cfg.env.tasks, self.cfg.evaluation.goals, model.num_timesteps
        result = evaluate(self._act(model), self._env(goals), tasks, episodes, goals)
        self.latest, self.latest_at = result, (step, episodes)
        rows = [
            {"step": step, **{name: getattr(row, name) for name in COLUMNS[1:]}} for row in result.results
        ]
        self.log.append(rows)
        if result.score > self.best:
            try:
                save_model(self._best_path, model, step=step, score=result.score)
                self.best = result.score
            except OSError as error:
                # The score stays, so that the next good model is tried again.
                logger.warning("step %d: the best model could not be saved (%s)", step, error)
        return result

    def success_rates(
        self, model: OffPolicyAlgorithm, tasks: Sequence[int], episodes: int
    ) -> dict[int, float]:
        """Return the success rate of some tasks, by id, on the goals that the run trains on.

        Raises:
            Preempted: A signal came.
        """
        names = self.cfg.env.tasks
        result = evaluate(self._act(model), self._env("train"), names, episodes, "train", only=tasks)
        return {names.index(row.task): row.success_rate for row in result.results}

    def _act(self, model: OffPolicyAlgorithm) -> Act:
        normalizer = model.get_vec_normalize_env()

        def act(obs: NDArray[np.float32]) -> NDArray[np.float32]:
            self.signals.check()
            seen = obs if normalizer is None else normalizer.normalize_obs(obs)
            return model.predict(seen, deterministic=True)[0]

        return act

    def _env(self, goals: str) -> VecEnv:
        if goals not in self._envs:
            self._envs[goals] = make_evaluation_env(self.cfg, self.chosen, goals)
        return self._envs[goals]

    def get_state(self) -> dict[str, Any]:
        """Return what later evaluations depend on, and the length of the log."""
        latest = [asdict(row) for row in self.latest.results] if self.latest else None
        return {
            "best": list(self.best),
            "latest": latest,
            "latest_at": list(self.latest_at),
            "log": self.log.size,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called; the log loses the rows it was given since."""
        success, mean_return = state["best"]
        self.best = (success, mean_return)
        latest = state["latest"]
        self.latest = None if latest is None else Evaluation(tuple(TaskResult(**row) for row in latest))
        step, episodes = state["latest_at"]
        self.latest_at = (step, episodes)
        self.log.cut(state["log"])

    def close(self) -> None:
        """Release the environments."""
        for env in self._envs.values():
            env.close()


class Stop(Exception):
    """Training ends here, at a point where nothing is half done; how a callback ends ``learn``."""


class Session(BaseCallback):
    """What happens around the agent's updates: logs, evaluations, checkpoints, the display, the end.

    Everything that looks at the whole state happens at the start of a rollout: the transition of the last
    step is then in the buffer and the updates that follow it are made, which is not so in mid-step.
    """

    model: OffPolicyAlgorithm

    def __init__(
        self,
        cfg: Config,
        chosen: Hardware,
        directory: Recorder,
        store: Store,
        signals: Signals,
        curriculum: Curriculum | None = None,
        resumed_at: int | None = None,
    ) -> None:
        super().__init__()
        self._closed = False
        self.cfg, self.chosen, self.directory, self.curriculum = cfg, chosen, directory, curriculum
        self.signals = signals
        self.episodes = Episodes(cfg.env.tasks)
        self.clock = Clock()
        per_task = isinstance(cfg.algo, SACConfig) and cfg.algo.temperature == "per_task"
        self.metrics = Metrics(
            directory.path,
            cfg.env.tasks,
            per_task_temperature=per_task,
            tensorboard=cfg.logging.tensorboard,
            tracker=make_tracker(cfg, directory.path),
            resumed_at=resumed_at,
        )
        self.examiner = Examiner(cfg, chosen, directory, signals)
        self.view = ProgressView(cfg.total_steps, resumed_at or 0, cfg.logging.progress)
        self._log, self._evaluate = Every(cfg.logging.every), Every(cfg.evaluation.every)
        self._learning_since: float | None = None
        self._learning_seconds = 0.0
        self._written_at = -1
        self.sections: dict[str, Stateful] = {
            "session": self,
            "episodes": self.episodes,
            "evaluation": self.examiner,
        }
        if curriculum is not None:
            self.sections["curriculum"] = curriculum
        logs = [*self.metrics.logs.values(), self.examiner.log]
        self.saver = Saver(cfg.checkpoint, store, directory, logs, self.sections)

    def get_state(self) -> dict[str, Any]:
        """Return what the rest of the run, and its logs, depend on beside the agent."""
        return {
            "written_at": self._written_at,
            "due": {name: every.last for name, every in self._every().items()},
            "logs": {name: log.size for name, log in self.metrics.logs.items()},
            "seconds": self.clock.seconds,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called; the logs lose the rows they were given since."""
        self._written_at = state["written_at"]
        for name, every in self._every().items():
            every.last = state["due"][name]
        for name, log in self.metrics.logs.items():
            log.cut(state["logs"][name])
        self.clock = Clock(state["seconds"])

    def _every(self) -> dict[str, Every]:
        return {"log": self._log, "evaluate": self._evaluate, "save": self.saver.every}

    def resume(self, checkpoint: Checkpoint, agent: OffPolicyAlgorithm) -> None:
        """Continue ``checkpoint`` with an agent that was made anew from the same configuration."""
        self.saver.restore(checkpoint, agent)
        self.clock.resume_at(checkpoint.step)

    def _on_training_start(self) -> None:
        self.signals.defer()
        if self.curriculum is None:
            return
        if self.num_timesteps == 0:
            self.curriculum.first_episodes_began(self.training_env)
        elif self.curriculum.stage < self.cfg.curriculum.start_stage:
            stage, why = self.cfg.curriculum.start_stage, "curriculum.start_stage asked for the next"
            transition = self.curriculum.go_to(self.training_env, stage, self.num_timesteps, why)
            self.curriculum.restrict(self.model.replay_buffer)
            self._tell(transition)
        elif 0 < self.cfg.curriculum.start_stage < self.curriculum.stage:
            logger.warning(
                "curriculum.start_stage=%d lies behind the present stage %d, which goes on",
                self.cfg.curriculum.start_stage,
                self.curriculum.stage,
            )
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
            self.signals.check()
            return
        logged = self._log.due(step)
        if logged:
            self._write_metrics()
        try:
            self._look(step)
        except Preempted:
            self.saver.save(self.model)
            raise
        if self.saver.is_due(step, logged=logged):
            self.saver.save(self.model)

    def _look(self, step: int) -> None:
        """Evaluate, and follow the curriculum, where that is due; a signal undoes what it interrupts."""
        self.signals.check()
        curriculum = self.curriculum
        looks = self._evaluate.passed(step) or (curriculum is not None and curriculum.look_is_due(step))
        with self._undone_by_signal() if looks else nullcontext():
            if self._evaluate.due(step) and step < self.cfg.total_steps:
                self._evaluate_now(self.cfg.evaluation.episodes)
                self._stop_if_solved()
            if curriculum is not None:
                self._follow_curriculum(curriculum)

    @contextmanager
    def _undone_by_signal(self) -> Iterator[None]:
        """Go back to where the block began if a signal comes in it; the next start does it again."""
        before = {name: section.get_state() for name, section in self.sections.items()}
        try:
            yield
        except Preempted:
            for name, section in self.sections.items():
                section.set_state(before[name])
            raise

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
            episodes = self.cfg.curriculum.check_episodes
            with self.clock.doing("evaluation"):
                success = self.examiner.success_rates(self.model, curriculum.tasks_to_check, episodes)
        transition = curriculum.advance(self.training_env, step, success)
        if transition is not None:
            curriculum.restrict(self.model.replay_buffer)
            self._tell(transition)
        if success is not None or transition is not None:
            shares = dict(zip(self.cfg.env.tasks, curriculum.rotation.weights, strict=True))
            names = {self.cfg.env.tasks[task]: rate for task, rate in (success or {}).items()}
            logger.info("step %d: stage %d, success %s, shares %s", step, curriculum.stage, names, shares)
            shares = {f"share/{task}": share for task, share in shares.items()}
            self.metrics.mirror("curriculum", shares, step)
            self._note_curriculum()

    def _tell(self, transition: Transition) -> None:
        """Keep the model that a stage ended with, and say why it ended."""
        target = self.directory.checkpoints / f"stage_{transition.ended}"
        try:
            save_model(target, self.model, step=transition.step)
        except OSError as error:
            logger.warning("step %d: the model of the stage could not be saved (%s)", transition.step, error)
        line = f"stage {transition.ended} ended after {transition.steps:,} steps, {transition.why}"
        self.view.say(f"step {transition.step:,}: {line}; stage {transition.begun} begins")
        logger.info("step %d: %s", transition.step, line)
        stages = {"stage": transition.begun, "ended": transition.ended, "lasted": transition.steps}
        self.metrics.mirror("curriculum", stages, transition.step)

    def _note_curriculum(self) -> None:
        if self.curriculum is not None:
            curriculum = self.curriculum
            entry = {"stage": curriculum.stage, "stages": len(curriculum.stages), "began": curriculum.began}
            entry |= {"summary": curriculum.summary(), "transitions": curriculum.history}
            self.directory.note("curriculum", entry)

    def _write_metrics(self) -> None:
        self.episodes.check_stable()
        check_finite(self.model)
        record_q_value(self.model)
        stage = None if self.curriculum is None else self.curriculum.stage
        self._written_at = self.num_timesteps
        self.metrics.write(self.num_timesteps, self.episodes, self.model.logger, self.clock, stage)
        self.directory.set_step(self.num_timesteps)

    def _evaluate_now(self, episodes: int) -> Evaluation:
        """Evaluate the present policy and show what it came to."""
        with self.clock.doing("evaluation"):
            result = self.examiner.examine(self.model, episodes)
        scalars = {"success_rate": result.success_rate, "return": result.mean_return}
        scalars |= {f"success_rate/{row.task}": row.success_rate for row in result.results}
        scalars |= {f"return/{row.task}": row.mean_return for row in result.results}
        self.metrics.mirror(f"evaluation_{self.cfg.evaluation.goals}", scalars, self.num_timesteps)
        self.view.say(
            f"step {self.num_timesteps:,}: success {result.success_rate:.1%}, "
            f"return {result.mean_return:,.0f} over {episodes} episodes a task ({self.clock.seconds:,.0f} s)"
        )
        return result

    def _stop_if_solved(self) -> None:
        """End the run once an official evaluation reaches ``stop.success``; a small one only asks for it."""
        enough, official = self.cfg.stop.success, self.cfg.evaluation.final_episodes
        latest = self.examiner.latest
        if enough is None or latest is None or latest.success_rate < enough:
            return
        if self.examiner.latest_at[1] < official:
            latest = self._evaluate_now(official)
        if latest.success_rate < enough:
            return
        self.view.say(f"solved: success {latest.success_rate:.1%} is at least stop.success={enough}")
        raise Stop

    def finish(self) -> Evaluation:
        """Make the official evaluation, unless the last one was it, save, and close everything."""
        self._count_learning()
        # What is due at this step is made here; a start that goes on from it must not make it again.
        self._log.due(self.num_timesteps)
        self._evaluate.due(self.num_timesteps)
        official = self.cfg.evaluation.final_episodes
        try:
            try:
                with self._undone_by_signal():
                    if self.examiner.latest_at != (self.num_timesteps, official):
                        self._evaluate_now(official)
                if self._written_at != self.num_timesteps:
                    self._write_metrics()
            finally:
                saved = self.saver.save(self.model)
            if not saved:
                raise CheckpointFailedError("the last checkpoint could not be written: make room on the disk")
        finally:
            self.close()
        latest = self.examiner.latest
        assert latest is not None
        title = f"{self.cfg.experiment} after {self.num_timesteps:,} steps, {self.clock.seconds:,.0f} s"
        Console(file=sys.stdout, markup=False).print(result_table(latest, title))
        if self.curriculum is not None:
            self._note_curriculum()
            Console(file=sys.stdout, markup=False).print(self.curriculum.summary(), soft_wrap=True)
        return latest

    def close(self) -> None:
        """Release the display, the files and the evaluation's environments; again does nothing."""
        if self._closed:
            return
        self._closed = True
        self.view.close()
        self.metrics.close()
        self.examiner.close()
