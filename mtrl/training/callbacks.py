"""What happens around the agent's updates, as four callbacks: logging, evaluation, curriculum, checkpoints.

``RunCallbacks`` says in which order they act. The state of each is a section of every checkpoint.
"""

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from mtrl.algo.finite import check_finite
from mtrl.algo.sac import SAC, record_q_value
from mtrl.checkpoint.model import save_model
from mtrl.checkpoint.state import Stateful
from mtrl.checkpoint.store import Checkpoint, Store
from mtrl.config.types import Config
from mtrl.curriculum.curriculum import Curriculum
from mtrl.env.make import make_evaluation_env
from mtrl.errors import CheckpointFailedError, Preempted
from mtrl.evaluation.protocol import COLUMNS, Evaluation, TaskResult, evaluate
from mtrl.hardware import Hardware
from mtrl.rundir.models import BEST, CHECKPOINTS
from mtrl.rundir.write import CsvLog
from mtrl.signals import Signals
from mtrl.training.display import ProgressView, result_table
from mtrl.training.metrics import Clock, Episodes, Every, Metrics
from mtrl.training.record import RunRecord

logger = logging.getLogger(__name__)

MAX_FAILURES = 3
"""After this many failed saves in a row the run ends."""


class Stop(Exception):
    """Ends ``learn`` from a callback, at a point where nothing is half done."""


@contextmanager
def rollback_on_signal(part: Stateful) -> Iterator[None]:
    """If a signal interrupts the block, set ``part`` back to its state before; the next start repeats the block."""
    before = part.get_state()
    try:
        yield
    except Preempted:
        part.set_state(before)
        raise


class RunCallbacks(CallbackList):
    """The callbacks of a run, in the order in which they act.

    Evaluations, new stages and checkpoints happen at the start of a rollout. Only then is the state consistent: the
    last transition is in the buffer, and the updates that follow it are made.

    Args:
        cfg: The run.
        machine: The devices, backend and threads that it uses.
        record: Writes status and configuration.
        store: Where its checkpoints lie.
        signals: Obeyed at the start of a rollout, when everything can be saved, and in an evaluation.
        curriculum: Its curriculum.
        resumed_at: Step from which an earlier start is continued; None for a new run.
    """

    model: OffPolicyAlgorithm

    def __init__(
        self,
        cfg: Config,
        machine: Hardware,
        record: RunRecord,
        store: Store,
        signals: Signals,
        curriculum: Curriculum | None = None,
        resumed_at: int | None = None,
    ) -> None:
        self.cfg, self.machine, self.record, self.store, self.signals = cfg, machine, record, store, signals
        self.curriculum, self.resumed_at = curriculum, resumed_at
        every = {"log": cfg.logging.every, "evaluate": cfg.evaluation.every, "save": cfg.checkpoint.every}
        self.schedules = {name: Every(steps) for name, steps in every.items()}
        self.logging = LoggingCallback(self)
        self.evaluation = EvaluationCallback(self)
        self.stages = None if curriculum is None else CurriculumCallback(self, curriculum)
        self.checkpoints = CheckpointCallback(self)
        self._closed = False
        callbacks = (self.logging, self.evaluation, self.stages, self.checkpoints)
        super().__init__([callback for callback in callbacks if callback is not None])

    def _on_training_start(self) -> None:
        # From here on there is something to save.
        self.signals.defer()
        super()._on_training_start()

    def _on_rollout_start(self) -> None:
        # First the row of this step, which a checkpoint after a signal includes. The stage follows the evaluation,
        # which ends the run if it is solved. Last the checkpoint, so that it holds what the others decided.
        self.logging.on_rollout_start()
        try:
            self.signals.check()
            self.evaluation.on_rollout_start()
            if self.stages is not None:
                self.stages.on_rollout_start()
        except Preempted:
            if self.num_timesteps > 0:
                self.checkpoints.save()
            raise
        self.checkpoints.on_rollout_start()

    def final_evaluation(self) -> Evaluation:
        """Return the official evaluation of the trained policy. A checkpoint is saved even if the evaluation fails.

        Raises:
            CheckpointFailedError: The last checkpoint could not be written.
        """
        self.logging.count_learning()
        try:
            result = self.evaluation.final()
            self.logging.write()
        finally:
            saved = self.checkpoints.save()
        if not saved:
            raise CheckpointFailedError("the last checkpoint could not be written: make room on the disk")
        if self.stages is not None:
            self.stages.write_status()
        return result

    def show(self, result: Evaluation) -> None:
        """Print the final evaluation and how far the curriculum came."""
        console = Console(file=sys.stdout, markup=False)
        seconds = self.logging.clock.seconds
        title = f"{self.cfg.experiment} after {self.num_timesteps:,} steps, {seconds:,.0f} s"
        console.print(result_table(result, title))
        if self.curriculum is not None:
            console.print(self.curriculum.summary(), soft_wrap=True)

    def close(self) -> None:
        """Release the display, the files and the evaluation's environments. Safe to call twice."""
        if not self._closed:
            self._closed = True
            self.logging.close()
            self.evaluation.close()


class RunCallback(BaseCallback):
    """One of the callbacks of a run; it reaches the others through ``run``."""

    model: OffPolicyAlgorithm

    def __init__(self, run: RunCallbacks) -> None:
        super().__init__()
        self.run = run

    def _on_step(self) -> bool:
        return True


class LoggingCallback(RunCallback):
    """Writes metrics.csv and timing.csv, mirrors them, and shows the progress."""

    def __init__(self, run: RunCallbacks) -> None:
        super().__init__(run)
        cfg, self._first_step = run.cfg, run.resumed_at or 0
        self.episodes, self.written_at = Episodes(cfg.env.tasks), -1
        self.metrics = Metrics(cfg, run.record.path, run.resumed_at)
        self.clock = Clock(first_step=self._first_step)
        self.view = ProgressView(cfg.total_steps, self._first_step, cfg.logging.progress)
        self._learning_since: float | None = None
        self._learning_seconds = 0.0

    def get_state(self) -> dict[str, Any]:
        """Return log lengths, schedules and clock."""
        return {
            "written_at": self.written_at,
            "due": {name: every.last for name, every in self.run.schedules.items()},
            "logs": {name: log.size for name, log in self.metrics.logs.items()},
            "seconds": self.clock.seconds,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called; rows written after that moment are removed."""
        self.written_at = state["written_at"]
        for name, every in self.run.schedules.items():
            every.last = state["due"][name]
        for name, log in self.metrics.logs.items():
            log.cut(state["logs"][name])
        self.clock = Clock(state["seconds"], self._first_step)

    def _on_step(self) -> bool:
        if self.locals["dones"].any():
            self.episodes.record(self.locals["dones"], self.locals["infos"])
        return True

    def _on_rollout_end(self) -> None:
        self._learning_since = time.perf_counter()

    def _on_rollout_start(self) -> None:
        self.count_learning()
        if self.view.is_due():
            self.view.update(self.num_timesteps, self.episodes.success_rates())
        if self.run.schedules["log"].is_due(self.num_timesteps):
            self.write()

    def count_learning(self) -> None:
        """Count the time of the updates: as the learner measured it, or all the time between two rollouts."""
        if isinstance(self.model, SAC):
            self.clock.add("learning", self.model.learning_seconds - self._learning_seconds)
            self._learning_seconds = self.model.learning_seconds
        elif self._learning_since is not None:
            self.clock.add("learning", time.perf_counter() - self._learning_since)
            self._learning_since = None

    def write(self) -> None:
        """Write a row, unless the present step has one.

        Raises:
            TrainingNotFiniteError: A weight is NaN or infinite.
            UnstableError: The simulation breaks down too often.
        """
        step = self.num_timesteps
        if self.written_at == step:
            return
        self.episodes.check_stable()
        check_finite(self.model)
        record_q_value(self.model)
        self.written_at = step
        self.run.schedules["log"].mark(step)
        stage = None if self.run.curriculum is None else self.run.curriculum.stage
        self.metrics.write(step, self.episodes, self.model.logger, self.clock, stage)
        self.run.record.update(step=step)

    def close(self) -> None:
        """Remove the display and flush the logs."""
        self.view.close()
        self.metrics.close()


class EvaluationCallback(RunCallback):
    """Evaluates the policy that is being trained, keeps the best model, and ends the run when it is solved."""

    def __init__(self, run: RunCallbacks) -> None:
        super().__init__(run)
        self.log = CsvLog(run.record.path / "evaluation.csv", COLUMNS)
        self.best = (-1.0, -np.inf)
        self.latest: Evaluation | None = None
        self.latest_at = (-1, 0)
        """Step and episodes per task of the latest evaluation."""
        self._envs: dict[str, VecEnv] = {}

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
        """Continue exactly where ``get_state`` was called; rows written after that moment are removed."""
        self.best, self.latest_at = tuple(state["best"]), tuple(state["latest_at"])
        latest = state["latest"]
        self.latest = None if latest is None else Evaluation(tuple(TaskResult(**row) for row in latest))
        self.log.cut(state["log"])

    def _on_rollout_start(self) -> None:
        if not self.run.schedules["evaluate"].is_due(self.num_timesteps):
            return
        with rollback_on_signal(self):
            self.evaluate_now(self.run.cfg.evaluation.episodes)
            solved = self._confirm_solved()
        # Mark it only now: an interrupted evaluation must be repeated.
        self.run.schedules["evaluate"].mark(self.num_timesteps)
        if solved:
            raise Stop

    def _confirm_solved(self) -> bool:
        """Return whether the policy reaches ``stop.success``; a small evaluation is confirmed by an official one."""
        enough, official = self.run.cfg.stop.success, self.run.cfg.evaluation.final_episodes
        if enough is None or self.latest is None or self.latest.success_rate < enough:
            return False
        if self.latest_at[1] < official and self.evaluate_now(official).success_rate < enough:
            return False
        self.run.logging.view.say(
            f"solved: success {self.latest.success_rate:.1%} is at least stop.success={enough}"
        )
        return True

    def final(self) -> Evaluation:
        """Return the official evaluation of the present policy: the latest one if it is that, or a new one."""
        # A later start, which may have more steps, must not evaluate at this step again.
        self.run.schedules["evaluate"].mark(self.num_timesteps)
        official = self.run.cfg.evaluation.final_episodes
        if self.latest is not None and self.latest_at == (self.num_timesteps, official):
            return self.latest
        with rollback_on_signal(self):
            return self.evaluate_now(official)

    def evaluate_now(self, episodes: int) -> Evaluation:
        """Evaluate the present policy, write down and show the result, and keep the model if it is the best."""
        tasks, goals, step = self.run.cfg.env.tasks, self.run.cfg.evaluation.goals, self.num_timesteps
        with self.run.logging.clock.doing("evaluation"):
            result = evaluate(self._act, self._env(goals), tasks, episodes, goals)
            self.latest, self.latest_at = result, (step, episodes)
            self.log.append([{"step": step, **asdict(row)} for row in result.results])
            if result.score > self.best:
                try:
                    save_model(
                        self.run.record.path / CHECKPOINTS / BEST, self.model, step=step, score=result.score
                    )
                    self.best = result.score
                except OSError as error:
                    # Keep the old best score, so that a later good model is saved.
                    logger.warning("step %d: the best model could not be saved (%s)", step, error)
        scalars = {"success_rate": result.success_rate, "return": result.mean_return}
        scalars |= {f"success_rate/{row.task}": row.success_rate for row in result.results}
        scalars |= {f"return/{row.task}": row.mean_return for row in result.results}
        self.run.logging.metrics.mirror(f"evaluation_{goals}", scalars, step)
        self.run.logging.view.say(
            f"step {step:,}: success {result.success_rate:.1%}, return {result.mean_return:,.0f} "
            f"over {episodes} episodes a task ({self.run.logging.clock.seconds:,.0f} s)"
        )
        return result

    def success_rates(self, tasks: Sequence[int], episodes: int) -> dict[int, float]:
        """Return the success rate of some tasks, by id, on the goals that the run trains on; nothing is logged."""
        names = self.run.cfg.env.tasks
        with self.run.logging.clock.doing("evaluation"):
            result = evaluate(self._act, self._env("train"), names, episodes, "train", only=tasks)
        return {names.index(row.task): row.success_rate for row in result.results}

    def _act(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        self.run.signals.check()
        normalizer = self.model.get_vec_normalize_env()
        seen = obs if normalizer is None else normalizer.normalize_obs(obs)
        return self.model.predict(seen, deterministic=True)[0]

    def _env(self, goals: str) -> VecEnv:
        if goals not in self._envs:
            self._envs[goals] = make_evaluation_env(self.run.cfg, self.run.machine, goals)
        return self._envs[goals]

    def close(self) -> None:
        """Release the environments."""
        for env in self._envs.values():
            env.close()


class CurriculumCallback(RunCallback):
    """Follows a curriculum: measures the success where it is due, and begins the next stage where one is over."""

    def __init__(self, run: RunCallbacks, curriculum: Curriculum) -> None:
        super().__init__(run)
        self._curriculum = curriculum

    def _on_training_start(self) -> None:
        curriculum, asked = self._curriculum, self.run.cfg.curriculum.start_stage
        if self.num_timesteps == 0:
            curriculum.first_episodes_began()
        elif curriculum.stage < asked:
            why = f"because curriculum.start_stage={asked}"
            self._begin_stage(curriculum.go_to(asked, self.num_timesteps, why))
        elif 0 < asked < curriculum.stage:
            logger.warning(
                "curriculum.start_stage=%d is earlier than the current stage %d; the run stays there",
                asked,
                curriculum.stage,
            )
        self.write_status()

    def _on_step(self) -> bool:
        dones = self.locals["dones"]
        if dones.any():
            self._curriculum.episodes_ended(dones, self.locals["infos"])
        return True

    def _on_rollout_start(self) -> None:
        curriculum, step = self._curriculum, self.num_timesteps
        success = curriculum.check(step, self.run.evaluation.success_rates)
        transition = curriculum.advance(step, success)
        if transition is not None:
            self._begin_stage(transition)
        if success is not None or transition is not None:
            tasks = self.run.cfg.env.tasks
            shares = dict(zip(tasks, curriculum.rotation.weights, strict=True))
            names = {tasks[task]: rate for task, rate in (success or {}).items()}
            logger.info("step %d: stage %d, success %s, shares %s", step, curriculum.stage, names, shares)
            shares = {f"share/{task}": share for task, share in shares.items()}
            self.run.logging.metrics.mirror("curriculum", shares, step)
            self.write_status()

    def _begin_stage(self, transition: dict[str, Any]) -> None:
        """Restrict the replay buffer, keep the model that the last stage ended with, and say why it ended."""
        self._curriculum.restrict(self.model.replay_buffer)
        ended, begun, step, steps = (transition[name] for name in ("ended", "begun", "step", "steps"))
        try:
            save_model(self.run.record.path / CHECKPOINTS / f"stage_{ended}", self.model, step=step)
        except OSError as error:
            logger.warning("step %d: the model of the stage could not be saved (%s)", step, error)
        line = f"stage {ended} ended after {steps:,} steps, {transition['why']}"
        self.run.logging.view.say(f"step {step:,}: {line}; stage {begun} begins")
        logger.info("step %d: %s", step, line)
        self.run.logging.metrics.mirror("curriculum", {"stage": begun, "ended": ended, "lasted": steps}, step)

    def write_status(self) -> None:
        """Write down which stage is played and how the earlier ones ended."""
        curriculum = self._curriculum
        entry = {"stage": curriculum.stage, "stages": len(curriculum.stages), "began": curriculum.began}
        entry |= {"summary": curriculum.summary(), "transitions": curriculum.history}
        self.run.record.update(curriculum=entry)


class CheckpointCallback(RunCallback):
    """Saves a checkpoint every checkpoint.every steps or checkpoint.minutes minutes."""

    def __init__(self, run: RunCallbacks) -> None:
        super().__init__(run)
        self._sections: dict[str, Stateful] = {
            # The name that checkpoints of version 0.1.0 use.
            "session": run.logging,
            "episodes": run.logging.episodes,
            "evaluation": run.evaluation,
        }
        if run.curriculum is not None:
            self._sections["curriculum"] = run.curriculum
        logs = [*run.logging.metrics.logs.values(), run.evaluation.log]
        self._pending_writers: list[CsvLog | RunRecord] = [*logs, run.record]
        self._saved_at = time.monotonic()
        self._failures = 0

    def restore(self, checkpoint: Checkpoint, agent: OffPolicyAlgorithm) -> None:
        """Continue ``checkpoint`` with a new agent of the same configuration."""
        started = time.monotonic()
        self.run.store.restore(checkpoint, agent, self._sections)
        logger.info("step %d: restored in %.2f s", checkpoint.step, time.monotonic() - started)

    def _on_rollout_start(self) -> None:
        step = self.num_timesteps
        # Retry a failed save whenever a row of metrics is written.
        failed = self._failures > 0 or any(log.waits for log in self._pending_writers)
        again = failed and self.run.logging.written_at == step
        minutes = (time.monotonic() - self._saved_at) / 60
        due = self.run.schedules["save"].is_due(step) or minutes >= self.run.cfg.checkpoint.minutes
        if step > 0 and (due or again):
            self.run.schedules["save"].mark(step)
            self.save()

    def save(self) -> bool:
        """Save everything and return whether that succeeded.

        Raises:
            CheckpointFailedError: It failed several times in a row.
        """
        model, started = self.model, time.monotonic()
        try:
            # Write the logs first: the checkpoint stores their length, and unwritten rows are lost when the process
            # ends.
            for log in self._pending_writers:
                log.write()
            self.run.store.save(model, self._sections)
            self.run.record.set_checkpoint(model.num_timesteps)
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
        logger.info("step %d: saved in %.2f s", model.num_timesteps, self._saved_at - started)
        return True
