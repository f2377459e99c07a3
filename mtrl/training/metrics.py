"""What a run measures of itself while it trains: its latest episodes and where the time goes."""

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mtrl.config.types import Config
from mtrl.errors import ConfigurationError, UnstableError

logger = logging.getLogger(__name__)

WINDOW = 20
"""Episodes of a task over which its training success, return and length are averaged."""
UNSTABLE_WINDOW, MAX_UNSTABLE, MAX_UNSTABLE_SHARE = 1000, 10, 0.05
"""Of so many latest episodes of all tasks, the simulation may break down in so many, or in that share."""
MEASURES = ("success_rate", "return", "episode_length")


class Episodes:
    """The latest episodes of each task and how many there were."""

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = tuple(tasks)
        self.count = self.unstable = 0
        self._broken: deque[int] = deque()
        """Numbers of those latest episodes that broke down."""
        self.recent: list[deque[tuple[bool, float, int]]] = [deque(maxlen=WINDOW) for _ in tasks]
        """Success, return and length of each task's latest episodes."""

    def record(self, dones: np.ndarray, infos: Sequence[Mapping[str, Any]]) -> None:
        """Count the episodes that ended in this vector step."""
        for copy in np.flatnonzero(dones):
            info = infos[copy]
            self.count += 1
            if info.get("unstable"):
                self.unstable += 1
                self._broken.append(self.count)
                continue
            episode = info["episode"]
            outcome = (bool(info["is_success"]), float(episode["r"]), int(episode["l"]))
            self.recent[info["task_id"]].append(outcome)
        while self._broken and self._broken[0] <= self.count - UNSTABLE_WINDOW:
            self._broken.popleft()

    def check_stable(self) -> None:
        """Raise UnstableError if too many of the latest episodes broke down, however many went well before."""
        broken, latest = len(self._broken), min(self.count, UNSTABLE_WINDOW)
        if broken > max(MAX_UNSTABLE, MAX_UNSTABLE_SHARE * latest):
            often = f"the simulation broke down in {broken} of the latest {latest} episodes"
            raise UnstableError(f"{often}: look at the actions, and at the versions of mujoco and metaworld")

    def means(self) -> dict[str, np.ndarray]:
        """Return mean success, return and length of the latest episodes of each task that has any."""
        recent = zip(self.tasks, self.recent, strict=True)
        return {task: np.mean(np.array(latest, np.float64), axis=0) for task, latest in recent if latest}

    def row(self) -> dict[str, float]:
        """Return the cells of a row of metrics.csv."""
        row: dict[str, float] = {"episodes": self.count, "unstable": self.unstable}
        means = self.means()
        if means:
            row["success_rate"] = float(np.mean([success for success, _, _ in means.values()]))
        for task, values in means.items():
            row |= {f"{measure}/{task}": value for measure, value in zip(MEASURES, values, strict=True)}
        return row

    def get_state(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        numbers = {"count": self.count, "unstable": self.unstable, "broken": list(self._broken)}
        return {**numbers, "recent": [list(outcomes) for outcomes in self.recent]}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue where ``get_state`` was called."""
        self.count, self.unstable = state["count"], state["unstable"]
        # Checkpoints from before there was a window lack it.
        self._broken = deque(state.get("broken", ()))
        self.recent = [deque(map(tuple, outcomes), maxlen=WINDOW) for outcomes in state["recent"]]


class Clock:
    """Measures where the wall-clock time goes; what is not counted as something else is the environments' time.

    Earlier starts took ``seconds`` and made ``first_step`` environment steps.
    """

    def __init__(self, seconds: float, first_step: int) -> None:
        self._earlier, self._started = seconds, time.perf_counter()
        self._mark = (self._started, first_step)
        self.spent = {"learning": 0.0, "evaluation": 0.0}
        """Seconds since the last row."""

    @property
    def seconds(self) -> float:
        """Seconds of the run, earlier starts included."""
        return self._earlier + time.perf_counter() - self._started

    def row(self, step: int) -> dict[str, float]:
        """Return a row of timing.csv over the time since the last one."""
        now = time.perf_counter()
        since, steps = now - self._mark[0], step - self._mark[1]
        shares = {what: spent / since for what, spent in self.spent.items()}
        self._mark, self.spent = (now, step), dict.fromkeys(self.spent, 0.0)
        run = {"step": step, "seconds": self.seconds, "steps_per_second": steps / since}
        return {**run, "environment": 1 - sum(shares.values()), **shares}


Mirrors = dict[str, tuple[Callable[[Mapping[str, float], int], object], Callable[[], object]]]
"""By name: what takes numbers of a step, and what ends it."""


def begin_mirrors(cfg: Config, directory: Path, resumed_at: int | None) -> Mirrors:
    """Begin the other places that ``logging`` asks for to hold the numbers of the CSV files.

    Weights & Biases is told the configuration, but neither environment variables nor code; ConfigurationError if it
    cannot begin.
    """
    mirrors: Mirrors = {}
    if cfg.logging.tensorboard:
        try:
            from torch.utils.tensorboard import SummaryWriter

            # It hides what TensorBoard holds of later steps, which are made again.
            purge = None if resumed_at is None else resumed_at + 1
            writer = SummaryWriter(str(directory / "tensorboard"), purge_step=purge)
        except Exception as error:
            logger.warning("TensorBoard gets nothing from this start (%s)", error)
        else:

            def write(scalars: Mapping[str, float], step: int) -> None:
                for name, value in scalars.items():
                    writer.add_scalar(name, value, step)

            mirrors["TensorBoard"] = (write, writer.close)
    if cfg.logging.wandb == "off":
        return mirrors
    import wandb

    folder = directory.absolute()
    try:
        run = wandb.init(
            project="mtrl",
            # The same directory is the same run, however often it was continued.
            id=hashlib.sha256(str(folder).encode()).hexdigest()[:16],
            resume="allow",
            name=f"{directory.parent.name}/{directory.name}",
            group=cfg.experiment,
            config=asdict(cfg),
            dir=folder,
            mode=cfg.logging.wandb,
            settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
        )
    except wandb.Error as error:
        refused = f"logging.wandb={cfg.logging.wandb} cannot begin ({error})"
        raise ConfigurationError(f"{refused}: use logging.wandb=offline") from error
    # wandb's own step only grows, and several groups are logged at one environment step.
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    mirrors["wandb"] = (lambda scalars, step: run.log({**scalars, "step": step}), run.finish)
    return mirrors
