"""Curricula: when a stage ends, and what the environment copies play after it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from mtrl.algo.replay import TaskReplayBuffer
from mtrl.config.types import AdaptiveCurriculumConfig, Config
from mtrl.curriculum.rotation import Rotation
from mtrl.curriculum.stages import Stage, stages_of

Success = Mapping[int, float]
"""Success rate of each task by its id."""


class Curriculum:
    """The stages of a run, played one after the other; the first is handed to ``env`` before its reset.

    Nothing is rebuilt when a stage ends: each copy finishes its episode and then plays what the new one says.
    A transition, as ``history`` has it, names the stage that ended and the one begun, the run's step, the steps that
    the stage lasted, why it ended, and the mean success over its tasks, None if it was never measured.

    An adaptive curriculum also moves the shares within a stage, towards tasks that fail and tasks that are being
    learned. At each check, a task attracts copies by ``(1 - success) + progress``; progress is how far its success is
    from a running mean of the earlier checks (absolute learning progress, Portelas et al. 2019, arXiv:1910.07224).
    The shares move by ``rate`` of the way towards that proportion; a share of ``floor`` is spread evenly.
    """

    def __init__(self, cfg: Config, env: VecEnv) -> None:
        self.cfg, self.stages = cfg.curriculum, stages_of(cfg)
        self.adaptive = isinstance(self.cfg, AdaptiveCurriculumConfig)
        self.stage, self.began, self._checked = self.cfg.start_stage, 0, 0
        self.history: list[dict[str, Any]] = []
        self.success_rate: float | None = None
        self._running_mean: dict[int, float] = {}
        self.rotation = Rotation(env, cfg.env.horizon, self.current.weights)

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
        every, success = self.cfg.check_every, None
        if step // every == self._checked // every or step - self.began < self.cfg.min_steps:
            return None
        if self.adaptive or self.current.threshold is not None:
            success = measure(self.current.tasks, self.cfg.check_episodes)
        self._checked = step
        return success

    def advance(self, step: int, success: Success | None) -> dict[str, Any] | None:
        """End the stage if it is over, and return the transition; ``success`` if it was just measured.

        If it is not over, an adaptive curriculum moves the shares.
        """
        stage = self.current
        if success is not None:
            self.success_rate = float(np.mean([success[task] for task in stage.tasks]))
            if stage.threshold is not None and self.success_rate >= stage.threshold - 1e-9:
                why = f"success {self.success_rate:.0%} reached its threshold of {stage.threshold:.0%}"
                return self.go_to(self.stage + 1, step, why)
        if stage.steps is not None and step - self.began >= stage.steps:
            return self.go_to(self.stage + 1, step, f"it lasted {stage.steps:,} steps")
        if self.adaptive and success is not None:
            self.rotation.change(self._moved(success), afresh=False)
        return None

    def _moved(self, success: Success) -> list[float]:
        """Return the shares after a check."""
        tasks, attraction, weights = self.current.tasks, {}, list(self.rotation.weights)
        for task in tasks:
            mean = self._running_mean.get(task, success[task])
            attraction[task] = 1 - success[task] + abs(success[task] - mean)
            self._running_mean[task] = mean + (success[task] - mean) / 2
        total = sum(attraction.values())
        even, floor, rate = 1 / len(tasks), self.cfg.floor, self.cfg.rate
        for task in tasks:
            target = floor * even + (1 - floor) * (attraction[task] / total if total > 0 else even)
            weights[task] += rate * (target - weights[task])
        return weights

    def go_to(self, stage: int, step: int, why: str) -> dict[str, Any]:
        """Begin another stage, which each copy plays from its next episode on, and return the transition."""
        transition = {"ended": self.stage, "begun": stage, "step": step, "steps": step - self.began}
        transition |= {"why": why, "success_rate": self.success_rate}
        self.history.append(transition)
        self.stage, self.began, self.success_rate, self._running_mean = stage, step, None, {}
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
        """Return in one line which stage the curriculum is in, and the shares of an adaptive one."""
        last, stage, said = len(self.stages) - 1, self.current, []
        if self.stage < last:
            ends = [] if stage.steps is None else [f"{stage.steps:,} steps"]
            if stage.threshold is not None:
                measured = "not measured" if self.success_rate is None else f"now {self.success_rate:.0%}"
                ends.insert(0, f"success {stage.threshold:.0%} ({measured})")
            said = [f"did not pass stage {self.stage} of {last}, which ends at {' or '.join(ends)}"]
        elif last or not self.adaptive:
            said = [f"in its last stage ({last}) since step {self.began:,}"]
        if self.adaptive:
            said.append("shares " + ", ".join(f"{weight:.0%}" for weight in self.rotation.weights))
        return f"curriculum: {'; '.join(said)}"

    def get_state(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        # "looked" and "usual" are the names that checkpoints of version 0.1.0 use.
        state = {"stage": self.stage, "began": self.began, "looked": self._checked}
        state |= {"success_rate": self.success_rate, "history": list(self.history)}
        state |= {"usual": {str(task): mean for task, mean in self._running_mean.items()}}
        return state | {"rotation": self.rotation.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``get_state`` was called."""
        self.stage, self.began, self._checked = state["stage"], state["began"], state["looked"]
        self.success_rate, self.history = state["success_rate"], list(state["history"])
        self._running_mean = {int(task): mean for task, mean in state.get("usual", {}).items()}
        self.rotation.set_state(state["rotation"])
