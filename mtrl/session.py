"""What happens around the agent's updates: logs, evaluations, checkpoints, the display, the end."""

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from mtrl.algo import check_finite, record_q_value
from mtrl.algo.rollout import OverlappedRollouts
from mtrl.checkpoint import Checkpoint, CheckpointFailedError, Stateful, Store, save_model
from mtrl.config import Config, SACConfig
from mtrl.curriculum import Curriculum, Transition
from mtrl.evaluation import Evaluation
from mtrl.examiner import Examiner
from mtrl.hardware import Hardware
from mtrl.metrics import Clock, Episodes, Every, Metrics
from mtrl.progress import ProgressView, result_table
from mtrl.recorder import Recorder
from mtrl.saver import Saver
from mtrl.signals import Preempted, Signals
from mtrl.tracker import make_tracker

logger = logging.getLogger(__name__)


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
