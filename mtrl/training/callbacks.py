"""What happens around the agent's updates: logs, evaluations, stages of a curriculum, checkpoints.

``RunCallbacks`` says in which order. The state of each part is a section of every checkpoint.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from mtrl.algo.sac import SAC, check_finite, record_q_value
from mtrl.checkpoint.model import save_model
from mtrl.checkpoint.store import Store
from mtrl.config.types import Config, HardwareConfig, SACConfig
from mtrl.curriculum.curriculum import Curriculum
from mtrl.env.make import make_evaluation_env
from mtrl.errors import CheckpointFailedError, Preempted
from mtrl.evaluation.protocol import COLUMNS, Evaluation, TaskResult, evaluate
from mtrl.rundir.checkpoints import Checkpoint, put_aside_damaged_models
from mtrl.rundir.models import BEST, CHECKPOINTS
from mtrl.rundir.write import CsvLog
from mtrl.signals import Signals
from mtrl.training.display import ProgressView, result_table
from mtrl.training.metrics import MEASURES, Clock, Episodes, begin_mirrors
from mtrl.training.record import RunRecord

logger = logging.getLogger(__name__)

MAX_FAILURES = 3
"""After this many failed saves in a row the run ends."""
_TIMING = ("step", "seconds", "steps_per_second", "environment", "learning", "evaluation")
_LEARNING = {
    "updates": "train/n_updates",
    "loss/actor": "train/actor_loss",
    "loss/critic": "train/critic_loss",
    "loss/temperature": "train/ent_coef_loss",
    "temperature": "train/ent_coef",
    "q_value": "train/q_value",
    "learning_rate": "train/learning_rate",
}
"""Columns of metrics.csv and the names under which the algorithms record them; any other value is not written."""


class Stop(Exception):
    """Ends ``learn`` from a callback, at a point where nothing is half done."""


class RunCallbacks(BaseCallback):
    """Acts at the start of every rollout: logs, evaluates, begins stages, saves checkpoints, and obeys signals.

    Only then is the state consistent: the last transition is in the buffer, and the updates that follow it are made.
    ``resumed_at`` is the step from which an earlier start is continued, None for a new run.
    """

    model: OffPolicyAlgorithm

    def __init__(
        self,
        cfg: Config,
        machine: HardwareConfig,
        record: RunRecord,
        store: Store,
        signals: Signals,
        curriculum: Curriculum | None = None,
        resumed_at: int | None = None,
    ) -> None:
        super().__init__()
        self.cfg, self.machine, self.record, self.store, self.signals = cfg, machine, record, store, signals
        self.curriculum, self.resumed_at = curriculum, resumed_at
        self._every = {"log": cfg.logging.every, "evaluate": cfg.evaluation.every}
        self._every["save"] = cfg.checkpoint.every
        self.done_at = dict.fromkeys(self._every, 0)
        """Step at which each of them was last due and done."""
        self.logs, self.evaluations = Logs(self), Evaluations(self)
        # "session" is the name that checkpoints of version 0.1.0 use.
        self._sections: dict[str, Any] = {"session": self.logs, "episodes": self.logs.episodes}
        self._sections["evaluation"] = self.evaluations
        self.stages = None if curriculum is None else Stages(self, curriculum)
        if curriculum is not None:
            self._sections["curriculum"] = curriculum
        self._written_first = (*self.logs.files.values(), self.evaluations.log, record)
        self._saved_at, self._failures = time.monotonic(), 0

    def is_due(self, what: str) -> bool:
        """Return whether a multiple of its interval has passed since then, in however large strides steps come."""
        every = self._every[what]
        return self.num_timesteps // every > self.done_at[what] // every

    def mark_done(self, what: str) -> None:
        """Count what is due now as done; where nothing is due, nothing changes."""
        if self.is_due(what):
            self.done_at[what] = self.num_timesteps

    def _on_training_start(self) -> None:
        # From here on there is something to save.
        self.signals.defer()
        if self.stages is not None:
            self.stages.training_starts()

    def _on_step(self) -> bool:
        dones, infos = self.locals["dones"], self.locals["infos"]
        if dones.any():
            self.logs.episodes.record(dones, infos)
            if self.curriculum is not None:
                self.curriculum.episodes_ended(dones, infos)
        return True

    def _on_rollout_end(self) -> None:
        self.logs.learning_since = time.perf_counter()

    def _on_rollout_start(self) -> None:
        # First the row of this step, which a checkpoint after a signal includes. The stage follows the evaluation,
        # which ends the run if it is solved. Last the checkpoint, so that it holds what the others decided.
        self.logs.show_and_write()
        try:
            self.signals.check()
            if self.is_due("evaluate"):
                self.evaluations.evaluate_and_stop_if_solved()
            if self.stages is not None:
                self.stages.follow()
        except Preempted:
            if self.num_timesteps > 0:
                self.save()
            raise
        # Retry a failed save whenever a row of metrics is written.
        failed = self._failures > 0 or any(log.waits for log in self._written_first)
        again = failed and self.logs.written_at == self.num_timesteps
        late = time.monotonic() - self._saved_at >= 60 * self.cfg.checkpoint.minutes
        if self.num_timesteps > 0 and (self.is_due("save") or late or again):
            self.mark_done("save")
            self.save()

    def save(self) -> None:
        """Save a checkpoint; raise CheckpointFailedError if that has failed several times in a row."""
        step, started = self.num_timesteps, time.monotonic()
        try:
            # The checkpoint stores the length of the logs, and unwritten rows are lost when the process ends.
            for log in self._written_first:
                log.write()
            self.store.save(self.model, self._sections)
            self.record.set(checkpoint=step, step=step)
        except OSError as error:
            self._failures += 1
            logger.warning("step %d: nothing could be saved (%s)", step, error)
            if self._failures >= MAX_FAILURES:
                often = f"nothing could be saved {MAX_FAILURES} times in a row ({error})"
                raise CheckpointFailedError(f"{often}: make room on the disk") from error
            return
        self._saved_at, self._failures = time.monotonic(), 0
        logger.info("step %d: saved in %.2f s", step, self._saved_at - started)

    def restore(self, checkpoint: Checkpoint, agent: OffPolicyAlgorithm) -> None:
        """Continue ``checkpoint`` with a new agent of the same configuration."""
        started = time.monotonic()
        self.store.restore(checkpoint, agent, self._sections)
        put_aside_damaged_models(self.record.path)
        if not (self.record.path / CHECKPOINTS / BEST).exists():
            # The next evaluation makes it again.
            self.evaluations.best = (-1.0, -np.inf)
        logger.info("step %d: restored in %.2f s", checkpoint.step, time.monotonic() - started)

    def finish(self) -> Evaluation:
        """Evaluate the trained policy officially, save, even if that fails, and print and return the result.

        CheckpointFailedError if the last checkpoint cannot be written.
        """
        self.logs.count_learning()
        try:
            result = self.evaluations.final()
            self.logs.write()
        finally:
            self.save()
        if self._failures:
            raise CheckpointFailedError("the last checkpoint could not be written: make room on the disk")
        if self.stages is not None:
            self.stages.write_status()
        self.close()
        console, seconds = Console(file=sys.stdout, markup=False), self.logs.clock.seconds
        title = f"{self.cfg.experiment} after {self.num_timesteps:,} steps, {seconds:,.0f} s"
        console.print(result_table(result, title))
        if self.curriculum is not None:
            console.print(self.curriculum.summary(), soft_wrap=True)
        return result

    def close(self) -> None:
        """Release the display, the logs and the evaluation's environments. Safe to call twice."""
        self.logs.close()
        while self.evaluations.envs:
            self.evaluations.envs.popitem()[1].close()


class Logs:
    """Writes metrics.csv and timing.csv, mirrors them to TensorBoard and Weights & Biases, and shows the progress."""

    def __init__(self, run: RunCallbacks) -> None:
        self.run, cfg, path, self._first_step = run, run.cfg, run.record.path, run.resumed_at or 0
        self.episodes, self.clock, self.written_at = Episodes(cfg.env.tasks), Clock(0.0, self._first_step), -1
        self._recorded = dict(_LEARNING)
        if isinstance(cfg.algo, SACConfig) and cfg.algo.temperature == "per_task":
            names = enumerate(cfg.env.tasks)
            self._recorded |= {f"temperature/{task}": f"train/ent_coef/{i}" for i, task in names}
        each = [f"{measure}/{task}" for measure in MEASURES for task in cfg.env.tasks]
        columns = ["step", "episodes", "success_rate", *each, *self._recorded, "unstable", "stage"]
        self.files = {"metrics": CsvLog(path / "metrics.csv", columns)}
        self.files["timing"] = CsvLog(path / "timing.csv", _TIMING)
        self._mirrors = begin_mirrors(cfg, path, run.resumed_at)
        self.view = ProgressView(cfg.total_steps, self._first_step, cfg.logging.progress)
        self.learning_since: float | None = None
        self._learning_seconds = 0.0

    def get_state(self) -> dict[str, Any]:
        """Return the lengths of the files, what was done when, and the clock."""
        lengths = {name: log.get_state() for name, log in self.files.items()}
        state = {"written_at": self.written_at, "due": dict(self.run.done_at), "logs": lengths}
        return {**state, "seconds": self.clock.seconds}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called; rows written after that moment are removed."""
        self.written_at = state["written_at"]
        self.run.done_at = {name: state["due"][name] for name in self.run.done_at}
        for name, log in self.files.items():
            log.set_state(state["logs"][name])
        self.clock = Clock(state["seconds"], self._first_step)

    def show_and_write(self) -> None:
        """Show the progress and write a row, where they are due."""
        self.count_learning()
        if self.view.is_due():
            rates = {task: success for task, (success, _, _) in self.episodes.means().items()}
            self.view.update(self.run.num_timesteps, rates)
        if self.run.is_due("log"):
            self.write()

    def count_learning(self) -> None:
        """Count the time of the updates: as the learner measured it, or all the time between two rollouts."""
        model = self.run.model
        if isinstance(model, SAC):
            self.clock.spent["learning"] += model.learning_seconds - self._learning_seconds
            self._learning_seconds = model.learning_seconds
        elif self.learning_since is not None:
            self.clock.spent["learning"] += time.perf_counter() - self.learning_since
            self.learning_since = None

    def write(self) -> None:
        """Write a row to each file, unless the present step has one; raise where ``check_stable`` or a NaN does."""
        run, step, model = self.run, self.run.num_timesteps, self.run.model
        if self.written_at == step:
            return
        self.episodes.check_stable()
        check_finite(model)
        record_q_value(model)
        self.written_at = step
        run.mark_done("log")
        row: dict[str, Any] = {"step": step, **self.episodes.row()}
        row["stage"] = None if run.curriculum is None else run.curriculum.stage
        # What the algorithm recorded since the last row.
        learned = model.logger.name_to_value
        for column, name in self._recorded.items():
            if name in learned:
                row[column] = learned[name] if isinstance(learned[name], int) else float(learned[name])
        for name, group, values in (("metrics", "training", row), ("timing", "timing", self.clock.row(step))):
            self.files[name].append([values])
            self.mirror(group, values, step)
        run.record.update(step=step)
        logger.debug("step %d: %s", step, row)

    def mirror(self, group: str, values: Mapping[str, object], step: int) -> None:
        """Write the numbers among ``values`` to TensorBoard and Weights & Biases under ``group``."""
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        scalars = {f"{group}/{name}": value for name, value in numbers.items() if name != "step"}
        for name, (write, _) in list(self._mirrors.items()):
            self._attempt(name, write, scalars, step)

    def close(self) -> None:
        """Remove the display, and end the mirrors. Safe to call twice."""
        self.view.close()
        for name, (_, end) in list(self._mirrors.items()):
            self._attempt(name, end)
        self._mirrors = {}

    def _attempt(self, mirror: str, do: Callable[..., object], *arguments: object) -> None:
        """Do without a mirror from its first failure on: the CSV files hold all."""
        try:
            do(*arguments)
        except Exception as error:
            del self._mirrors[mirror]
            logger.warning("%s gets nothing more from this start (%s)", mirror, error)


class Evaluations:
    """Evaluates the policy that is being trained, keeps the best model, and ends the run when it is solved."""

    def __init__(self, run: RunCallbacks) -> None:
        self.run, self.log = run, CsvLog(run.record.path / "evaluation.csv", COLUMNS)
        self.best = (-1.0, -np.inf)
        self.latest: Evaluation | None = None
        self.latest_at = (-1, 0)
        """Step and episodes per task of the latest evaluation."""
        self.envs: dict[str, VecEnv] = {}
        """By the goals that are played."""

    def get_state(self) -> dict[str, Any]:
        """Return what later evaluations depend on, and the length of the log."""
        latest = [asdict(row) for row in self.latest.results] if self.latest else None
        state = {"best": list(self.best), "latest": latest, "latest_at": list(self.latest_at)}
        return {**state, "log": self.log.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called; rows written after that moment are removed."""
        self.best, self.latest_at = tuple(state["best"]), tuple(state["latest_at"])
        latest = state["latest"]
        self.latest = None if latest is None else Evaluation(tuple(TaskResult(**row) for row in latest))
        self.log.set_state(state["log"])

    def evaluate_and_stop_if_solved(self) -> None:
        """Evaluate; a small evaluation only raises the question whether all is solved, an official one answers it."""
        enough, cfg = self.run.cfg.stop.success, self.run.cfg.evaluation
        with self._repeated_after_a_signal():
            result = self.evaluate_now(cfg.episodes)
            solved = enough is not None and result.success_rate >= enough
            if solved and cfg.episodes < cfg.final_episodes:
                result = self.evaluate_now(cfg.final_episodes)
                solved = result.success_rate >= enough
        # Mark it only now: an interrupted evaluation must be repeated.
        self.run.mark_done("evaluate")
        if solved:
            rate = result.success_rate
            self.run.logs.view.say(f"solved: success {rate:.1%} is at least stop.success={enough}")
            raise Stop

    def final(self) -> Evaluation:
        """Return the official evaluation of the present policy: the latest one if it is that, or a new one."""
        # A later start, which may have more steps, must not evaluate at this step again.
        self.run.mark_done("evaluate")
        official = self.run.cfg.evaluation.final_episodes
        if self.latest is not None and self.latest_at == (self.run.num_timesteps, official):
            return self.latest
        with self._repeated_after_a_signal():
            return self.evaluate_now(official)

    @contextmanager
    def _repeated_after_a_signal(self) -> Iterator[None]:
        """If a signal interrupts the block, forget what was evaluated in it; the next start repeats it."""
        before = self.get_state()
        try:
            yield
        except Preempted:
            self.set_state(before)
            raise

    def evaluate_now(self, episodes: int) -> Evaluation:
        """Evaluate the present policy, write down and show the result, and keep the model if it is the best."""
        run, step, goals = self.run, self.run.num_timesteps, self.run.cfg.evaluation.goals
        result = self._play(goals, episodes)
        self.latest, self.latest_at = result, (step, episodes)
        self.log.append([{"step": step, **asdict(row)} for row in result.results])
        if result.score > self.best:
            try:
                save_model(run.record.path / CHECKPOINTS / BEST, run.model, step=step, score=result.score)
                self.best = result.score
            except OSError as error:
                # The old best score stays, so that a later good model is saved.
                logger.warning("step %d: the best model could not be saved (%s)", step, error)
        scalars = {"success_rate": result.success_rate, "return": result.mean_return}
        scalars |= {f"success_rate/{row.task}": row.success_rate for row in result.results}
        scalars |= {f"return/{row.task}": row.mean_return for row in result.results}
        run.logs.mirror(f"evaluation_{goals}", scalars, step)
        run.logs.view.say(
            f"step {step:,}: success {result.success_rate:.1%}, return {result.mean_return:,.0f} "
            f"over {episodes} episodes a task ({run.logs.clock.seconds:,.0f} s)"
        )
        return result

    def success_rates(self, tasks: Sequence[int], episodes: int) -> dict[int, float]:
        """Return the success rate of some tasks, by id, on the goals that the run trains on; nothing is logged."""
        played = self._play("train", episodes, tasks).results
        return {self.run.cfg.env.tasks.index(row.task): row.success_rate for row in played}

    def _play(self, goals: str, episodes: int, only: Sequence[int] | None = None) -> Evaluation:
        """Let the deterministic policy play; a signal interrupts it."""
        run, normalizer, started = self.run, self.run.model.get_vec_normalize_env(), time.perf_counter()
        if goals not in self.envs:
            self.envs[goals] = make_evaluation_env(run.cfg, run.machine, goals)

        def act(obs: NDArray[np.float32]) -> NDArray[np.float32]:
            run.signals.check()
            seen = obs if normalizer is None else normalizer.normalize_obs(obs)
            return run.model.predict(seen, deterministic=True)[0]

        result = evaluate(act, self.envs[goals], run.cfg.env.tasks, episodes, goals, only=only)
        run.logs.clock.spent["evaluation"] += time.perf_counter() - started
        return result


class Stages:
    """Follows a curriculum: measures the success where it is due, and begins the next stage where one is over."""

    def __init__(self, run: RunCallbacks, curriculum: Curriculum) -> None:
        self.run, self._curriculum = run, curriculum

    def training_starts(self) -> None:
        """Say what the copies play second, or begin the stage that ``curriculum.start_stage`` asks for."""
        run, curriculum, asked = self.run, self._curriculum, self.run.cfg.curriculum.start_stage
        if run.num_timesteps == 0:
            curriculum.first_episodes_began()
        elif curriculum.stage < asked:
            why = f"because curriculum.start_stage={asked}"
            self._begin_stage(curriculum.go_to(asked, run.num_timesteps, why))
        elif 0 < asked < curriculum.stage:
            message = "curriculum.start_stage=%d is earlier than the current stage %d; the run stays there"
            logger.warning(message, asked, curriculum.stage)
        self.write_status()

    def follow(self) -> None:
        """Measure the success if that is due; begin the next stage if the present one is over."""
        run, curriculum, step = self.run, self._curriculum, self.run.num_timesteps
        success = curriculum.check(step, run.evaluations.success_rates)
        transition = curriculum.advance(step, success)
        if transition is not None:
            self._begin_stage(transition)
        if success is not None or transition is not None:
            tasks = run.cfg.env.tasks
            shares = dict(zip(tasks, curriculum.rotation.weights, strict=True))
            names = {tasks[task]: rate for task, rate in (success or {}).items()}
            logger.info("step %d: stage %d, success %s, shares %s", step, curriculum.stage, names, shares)
            scalars = {f"share/{task}": share for task, share in shares.items()}
            run.logs.mirror("curriculum", scalars, step)
            self.write_status()

    def _begin_stage(self, transition: dict[str, Any]) -> None:
        """Restrict the replay buffer, keep the model that the last stage ended with, and say why it ended."""
        run, (ended, begun, step, steps, why, _) = self.run, transition.values()
        self._curriculum.restrict(run.model.replay_buffer)
        try:
            save_model(run.record.path / CHECKPOINTS / f"stage_{ended}", run.model, step=step)
        except OSError as error:
            logger.warning("step %d: the model of the stage could not be saved (%s)", step, error)
        line = f"stage {ended} ended after {steps:,} steps, {why}"
        run.logs.view.say(f"step {step:,}: {line}; stage {begun} begins")
        logger.info("step %d: %s", step, line)
        run.logs.mirror("curriculum", {"stage": begun, "ended": ended, "lasted": steps}, step)

    def write_status(self) -> None:
        """Write down which stage is played and how the earlier ones ended."""
        curriculum = self._curriculum
        entry = {"stage": curriculum.stage, "stages": len(curriculum.stages), "began": curriculum.began}
        entry |= {"summary": curriculum.summary(), "transitions": curriculum.history}
        self.run.record.update(curriculum=entry)
