"""The evaluation protocol: deterministic actions, each goal in turn, full episodes, success at any step.

Episode *i* of a task plays goal *i* mod 50. Meta-World's own function draws goals with replacement and ends
an episode at success; on one list of goals the success rates agree, returns and lengths do not.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mtrl.tasks import GOALS

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

Act = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From observations ``(n_envs, obs_dim)`` to actions ``(n_envs, 4)``."""

COLUMNS = ("step", "task", "goals", "episodes", "success_rate", "mean_return", "mean_length")


@dataclass(frozen=True, slots=True)
class TaskResult:
    """The outcome of the episodes of one task."""

    task: str
    goals: str
    episodes: int
    success_rate: float
    mean_return: float
    mean_length: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of all tasks, in the order of the task set."""

    results: tuple[TaskResult, ...]

    @property
    def success_rate(self) -> float:
        """Mean over the tasks."""
        return float(np.mean([result.success_rate for result in self.results]))

    @property
    def mean_return(self) -> float:
        """Mean over the tasks."""
        return float(np.mean([result.mean_return for result in self.results]))

    @property
    def score(self) -> tuple[float, float]:
        """What makes a model the best: mean success, ties by return."""
        return self.success_rate, self.mean_return


def evaluate(
    act: Act,
    env: "VecEnv",
    tasks: Sequence[str],
    episodes: int,
    goals: str = "train",
    only: Sequence[int] | None = None,
) -> Evaluation:
    """Play ``episodes`` episodes of every task (of those with an id in ``only``) and return their results.

    ``act`` is called with the observations of all copies at once. ``env`` has any number of copies, whose tasks are
    set here, and was made with ``tasks`` and ``goals``, "train" or "heldout", which only label the results.
    """
    played = range(len(tasks)) if only is None else sorted(only)
    # Tasks alternate, so that no copy is idle while another finishes one task.
    queue = deque((task, episode % GOALS) for episode in range(episodes) for task in played)
    outcomes: list[list[tuple[bool, float, int]]] = [[] for _ in tasks]
    """Success, return and length of each episode of each task."""

    def assign(copy: int) -> int | None:
        if not queue:
            return None
        task, goal = queue.popleft()
        env.env_method("set_task", task, goal, indices=[copy])
        return task

    playing = [assign(copy) for copy in range(env.num_envs)]
    obs = env.reset()
    # A copy resets itself when its episode ends, so the next task must be set before the episode ends:
    #     playing    task A, assigned before the reset | task B              | task C
    #     next_task  task B, set while A is played     | task C, set at once | ...
    next_task = [assign(copy) for copy in range(env.num_envs)]
    while any(task is not None for task in playing):
        obs, _, dones, infos = env.step(act(obs))
        for copy in np.flatnonzero(dones):
            task = playing[copy]
            if task is not None:
                episode, success = infos[copy]["episode"], bool(infos[copy]["is_success"])
                outcomes[task].append((success, float(episode["r"]), int(episode["l"])))
            playing[copy] = next_task[copy]
            next_task[copy] = assign(copy)
    results = []
    for task in played:
        means = (float(np.mean(column)) for column in zip(*outcomes[task], strict=True))
        results.append(TaskResult(tasks[task], goals, len(outcomes[task]), *means))
    return Evaluation(tuple(results))
