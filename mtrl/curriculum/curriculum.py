"""Curricula: when a stage ends, and what the environment copies play after it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from mtrl.algo.replay import TaskReplayBuffer
from mtrl.config.types import AdaptiveCurriculumConfig, Config, CurriculumConfig
from mtrl.curriculum.rotation import Rotation
from mtrl.curriculum.stages import Stage, stages_of

Success = Mapping[int, float]
"""Success rate of each task by its id."""


def begin_curriculum(cfg: Config, env: VecEnv) -> "Curriculum | None":
    """Return the curriculum of a run, its first stage handed to ``env`` before its reset, or None."""
    stages = stages_of(cfg)
    kind = AdaptiveCurriculum if isinstance(cfg.curriculum, AdaptiveCurriculumConfig) else Curriculum
    return kind(cfg.curriculum, stages, env, cfg.env.horizon) if stages else None


class Curriculum:
    """A list of stages, played one after the other.

    Nothing is rebuilt when a stage ends: each copy finishes its episode and then plays what the new one says.
    A transition, as ``history`` has it, names the stage that ended and the one begun, the run's step, the steps that
    the stage lasted, why it ended, and the mean success over its tasks, None if it was never measured.
    """

    def __init__(self, cfg: CurriculumConfig, stages: Sequence[Stage], env: VecEnv, horizon: int) -> None:
        self.cfg, self.stages = cfg, tuple(stages)
        self.stage, self.began, self._checked = cfg.start_stage, 0, 0
        self.history: list[dict[str, Any]] = []
        self.success_rate: float | None = None
        self.rotation = Rotation(env, horizon, self.current.weights)

    @property
    def current(self) -> Stage:
        """The stage that is played now."""
        return self.stages[self.stage]

    def first_episodes_began(self) -> None:
        """Decide what every copy plays second, after the first reset of all."""
        self.rotation.episodes_began(self.rotation.copies)

    def episodes_ended(self, dones: NDArray[np.bool_], infos: Sequence[Mapping[str, Any]]) -> None:
        """Count the episodes that ended in this vector step; decide what follows those that have just begun."""
        copies = np.flatnonzero(dones).tolist()
        for copy in copies:
            self.rotation.episode_ended(copy, infos[copy]["task_id"], infos[copy]["episode"]["l"])
        self.rotation.episodes_began(copies)

    def check(self, step: int, measure: Callable[[Sequence[int], int], Success]) -> Success | None:
        """Return the success of the stage's tasks; None where no check is due, or the success decides nothing.

        ``measure`` gets the ids of the tasks and the episodes of each; if it raises, the check stays due.
        """
        every = self.cfg.check_every
        if step // every == self._checked // every or step - self.began < self.cfg.min_steps:
            return None
        success = None
        if self._decides_by_success():
            success = measure(self.current.tasks, self.cfg.check_episodes)
        self._checked = step
        return success

    def _decides_by_success(self) -> bool:
        return self.current.threshold is not None

    def advance(self, step: int, success: Success | None) -> dict[str, Any] | None:
        """End the stage if it is over, and return the transition; ``success`` if it was just measured."""
        stage = self.current
        if success is not None:
            self.success_rate = float(np.mean([success[task] for task in stage.tasks]))
            if stage.threshold is not None and self.success_rate >= stage.threshold - 1e-9:
                why = f"success {self.success_rate:.0%} reached its threshold of {stage.threshold:.0%}"
                return self.go_to(self.stage + 1, step, why)
        if stage.steps is not None and step - self.began >= stage.steps:
            return self.go_to(self.stage + 1, step, f"it lasted {stage.steps:,} steps")
        return None

    def go_to(self, stage: int, step: int, why: str) -> dict[str, Any]:
        """Begin another stage, which each copy plays from its next episode on, and return the transition."""
        transition = {"ended": self.stage, "begun": stage, "step": step, "steps": step - self.began}
        transition |= {"why": why, "success_rate": self.success_rate}
        self.history.append(transition)
        self.stage, self.began, self.success_rate = stage, step, None
        self.rotation.change(self.current.weights, afresh=True)
        return transition

    def restrict(self, replay: TaskReplayBuffer) -> None:
        """Let updates draw only what the stage that begins now keeps of ``replay``, and what it adds to it."""
        kept = self.current.replay
        if kept == "all":
            replay.restrict()
        else:
            # An episode that began before the stage is played to its end, possibly of a task that the stage lacks.
            replay.restrict(replay.total_added if kept == "none" else 0, self.current.tasks)

    def summary(self) -> str:
        """Return in one line which stage the curriculum is in."""
        last, stage = len(self.stages) - 1, self.current
        if self.stage == last:
            return f"curriculum: in its last stage ({last}) since step {self.began:,}"
        ends = []
        if stage.threshold is not None:
            measured = "not measured" if self.success_rate is None else f"now {self.success_rate:.0%}"
            ends.append(f"success {stage.threshold:.0%} ({measured})")
        if stage.steps is not None:
            ends.append(f"{stage.steps:,} steps")
        return f"curriculum: did not pass stage {self.stage} of {last}, which ends at {' or '.join(ends)}"

    def get_state(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        # "looked" is the name that checkpoints of version 0.1.0 use.
        state = {"stage": self.stage, "began": self.began, "looked": self._checked}
        state |= {"success_rate": self.success_rate, "history": list(self.history)}
        return state | {"rotation": self.rotation.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called."""
        self.stage, self.began, self._checked = state["stage"], state["began"], state["looked"]
        self.success_rate, self.history = state["success_rate"], list(state["history"])
        self.rotation.set_state(state["rotation"])


class AdaptiveCurriculum(Curriculum):
    """Weights that follow the success within a stage: towards tasks that fail, and tasks that are being learned.

    At each check, a task attracts copies by ``(1 - success) + progress``; progress is how far its success is from
    a running mean of the earlier checks (absolute learning progress, Portelas et al. 2019, arXiv:1910.07224).
    The shares move by ``rate`` of the way towards that proportion; a share of ``floor`` is spread evenly.
    """

    def __init__(self, cfg: CurriculumConfig, stages: Sequence[Stage], env: VecEnv, horizon: int) -> None:
        super().__init__(cfg, stages, env, horizon)
        self.weights = list(self.current.weights)
        self._running_mean: dict[int, float] = {}

    def _decides_by_success(self) -> bool:
        return True

    def advance(self, step: int, success: Success | None) -> dict[str, Any] | None:
        """Move the weights of the tasks whose success was just measured; end the stage if it is over."""
        transition = super().advance(step, success)
        if transition is None and success is not None:
            self._move(success)
            self.rotation.change(self.weights, afresh=False)
        return transition

    def go_to(self, stage: int, step: int, why: str) -> dict[str, Any]:
        """Begin another stage with its own weights."""
        transition = super().go_to(stage, step, why)
        self.weights, self._running_mean = list(self.current.weights), {}
        return transition

    def _move(self, success: Success) -> None:
        tasks = self.current.tasks
        attraction = {}
        for task in tasks:
            mean = self._running_mean.get(task, success[task])
            attraction[task] = 1 - success[task] + abs(success[task] - mean)
            self._running_mean[task] = mean + (success[task] - mean) / 2
        total = sum(attraction.values())
        even, floor, rate = 1 / len(tasks), self.cfg.floor, self.cfg.rate
        for task in tasks:
            target = floor * even + (1 - floor) * (attraction[task] / total if total > 0 else even)
            self.weights[task] += rate * (target - self.weights[task])

    def summary(self) -> str:
        """Return the shares in one line, and of several stages which one it is."""
        stages = f"{super().summary()}; " if len(self.stages) > 1 else "curriculum: "
        return f"{stages}shares " + ", ".join(f"{weight:.0%}" for weight in self.weights)

    def get_state(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        means = {str(task): success for task, success in self._running_mean.items()}
        # "usual" is the name that checkpoints of version 0.1.0 use.
        return super().get_state() | {"weights": list(self.weights), "usual": means}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called."""
        super().set_state(state)
        self.weights = list(state["weights"])
        self._running_mean = {int(task): success for task, success in state["usual"].items()}
