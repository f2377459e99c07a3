"""What a run measures of itself while it trains: metrics.csv, timing.csv, and their mirrors."""

import hashlib
import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from stable_baselines3.common.logger import Logger

from mtrl.config.types import Config, SACConfig
from mtrl.errors import ConfigurationError, UnstableError
from mtrl.rundir.write import CsvLog

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

WINDOW = 20
"""Episodes of a task over which its training success, return and length are averaged."""
UNSTABLE_WINDOW = 1000
"""Episodes of all tasks among which those whose simulation broke down are counted."""
MAX_UNSTABLE, MAX_UNSTABLE_SHARE = 10, 0.05
"""Episodes that may break down, and the share of them, among the latest."""

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


class Every:
    """A schedule: due at each multiple of ``interval`` environment steps, in however large strides steps come."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.last = 0

    def is_due(self, step: int) -> bool:
        """Return whether a multiple of the interval was passed since ``mark``."""
        return step // self.interval > self.last // self.interval

    def mark(self, step: int) -> None:
        """Count what is due at ``step`` as done; a step at which nothing is due changes nothing."""
        if self.is_due(step):
            self.last = step


class Episodes:
    """The latest episodes of each task and how many there were."""

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = tuple(tasks)
        self.count = self.unstable = 0
        self._broken: deque[int] = deque()
        """Numbers of the episodes of the window that broke down."""
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
            raise UnstableError(
                f"the simulation broke down in {broken} of the latest {latest} episodes: "
                "look at the actions, and at the versions of mujoco and metaworld"
            )

    def success_rates(self) -> dict[str, float]:
        """Return the success rate of the latest episodes of each task that has any."""
        return {
            task: float(np.mean([success for success, _, _ in recent]))
            for task, recent in zip(self.tasks, self.recent, strict=True)
            if recent
        }

    def row(self) -> dict[str, float]:
        """Return the cells of a row of metrics.csv."""
        rates = self.success_rates()
        row: dict[str, float] = {"episodes": self.count, "unstable": self.unstable}
        if rates:
            row["success_rate"] = float(np.mean(list(rates.values())))
        for task, recent in zip(self.tasks, self.recent, strict=True):
            if recent:
                success, episode_return, length = np.mean(np.array(recent, dtype=np.float64), axis=0)
                row |= {f"success_rate/{task}": success, f"return/{task}": episode_return}
                row[f"episode_length/{task}"] = length
        return row

    def get_state(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        recent = [list(outcomes) for outcomes in self.recent]
        return {
            "count": self.count,
            "unstable": self.unstable,
            "broken": list(self._broken),
            "recent": recent,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue where ``get_state`` was called."""
        self.count, self.unstable = state["count"], state["unstable"]
        # Checkpoints from before there was a window lack it.
        self._broken = deque(state.get("broken", ()))
        self.recent = [deque(map(tuple, outcomes), maxlen=WINDOW) for outcomes in state["recent"]]


class Clock:
    """Measures where the wall-clock time goes; what is not counted as something else is the environments' time.

    Args:
        seconds: Seconds of earlier starts.
        first_step: Environment steps of earlier starts.
    """

    def __init__(self, seconds: float = 0.0, first_step: int = 0) -> None:
        self._earlier = seconds
        self._started = time.perf_counter()
        self._mark = (self._started, first_step)
        self._spent = {"learning": 0.0, "evaluation": 0.0}

    @property
    def seconds(self) -> float:
        """Seconds of the run, earlier starts included."""
        return self._earlier + time.perf_counter() - self._started

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Count the time inside the block as ``what``, "learning" or "evaluation"."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(what, time.perf_counter() - started)

    def add(self, what: str, seconds: float) -> None:
        """Count ``seconds`` as ``what``."""
        self._spent[what] += seconds

    def row(self, step: int) -> dict[str, float]:
        """Return a row of timing.csv over the time since the last one."""
        now = time.perf_counter()
        since, steps = now - self._mark[0], step - self._mark[1]
        shares = {what: spent / since for what, spent in self._spent.items()}
        self._mark, self._spent = (now, step), dict.fromkeys(self._spent, 0.0)
        rate, environment = steps / since, 1 - sum(shares.values())
        row = {"step": step, "seconds": self.seconds, "steps_per_second": rate, "environment": environment}
        return row | shares


class Metrics:
    """Writes rows of metrics.csv and timing.csv, and mirrors them to TensorBoard and Weights & Biases.

    Args:
        cfg: The run.
        directory: The run directory.
        resumed_at: Step from which an earlier start is continued; TensorBoard hides what it holds of later ones.
    """

    def __init__(self, cfg: Config, directory: Path, resumed_at: int | None = None) -> None:
        self.tasks = tasks = tuple(cfg.env.tasks)
        columns = ["step", "episodes", "success_rate"]
        for measure in ("success_rate", "return", "episode_length"):
            columns += [f"{measure}/{task}" for task in tasks]
        columns += _LEARNING
        if isinstance(cfg.algo, SACConfig) and cfg.algo.temperature == "per_task":
            columns += [f"temperature/{task}" for task in tasks]
        columns += ["unstable", "stage"]
        self.logs = {
            "metrics": CsvLog(directory / "metrics.csv", columns),
            "timing": CsvLog(directory / "timing.csv", _TIMING),
        }
        self._tracker = None if cfg.logging.wandb == "off" else begin_wandb(cfg, directory)
        self._writer: SummaryWriter | None = None
        if cfg.logging.tensorboard:
            from torch.utils import tensorboard

            purge = None if resumed_at is None else resumed_at + 1
            self._writer = tensorboard.SummaryWriter(str(directory / "tensorboard"), purge_step=purge)

    def write(self, step: int, episodes: Episodes, learner: Logger, clock: Clock, stage: int | None) -> None:
        """Append a row to each file; ``learner`` holds what the algorithm logged since the last one."""
        logged = learner.name_to_value
        recorded = _LEARNING | {
            f"temperature/{task}": f"train/ent_coef/{index}" for index, task in enumerate(self.tasks)
        }
        row: dict[str, object] = {"step": step, "stage": stage, **episodes.row()}
        row |= {column: _plain(logged[name]) for column, name in recorded.items() if name in logged}
        timing = clock.row(step)
        self.logs["metrics"].append([row])
        self.logs["timing"].append([timing])
        self.mirror("training", row, step)
        self.mirror("timing", timing, step)

    def mirror(self, group: str, values: Mapping[str, object], step: int) -> None:
        """Write scalars to TensorBoard and Weights & Biases under ``group``."""
        scalars = {
            f"{group}/{name}": value
            for name, value in values.items()
            if name != "step" and isinstance(value, int | float)
        }
        if self._tracker is not None:
            self._tracker.log({**scalars, "step": step})
        with self._unless_disk_is_full():
            if self._writer is not None:
                for name, value in scalars.items():
                    self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush what the mirrors still hold."""
        with self._unless_disk_is_full():
            if self._writer is not None:
                self._writer.close()
        if self._tracker is not None:
            self._tracker.finish()

    @contextmanager
    def _unless_disk_is_full(self) -> Iterator[None]:
        """Do without TensorBoard from the first failure on: its writer does not recover, the CSV files hold all."""
        try:
            yield
        except OSError as error:
            self._writer = None
            logger.warning("TensorBoard gets nothing more from this start (%s)", error)


def _plain(value: Any) -> float:
    number = float(value)
    return int(number) if number.is_integer() and isinstance(value, int) else number


def begin_wandb(cfg: Config, directory: Path) -> Any:
    """Return a run of Weights & Biases, online or in files that ``wandb sync`` uploads.

    The configuration is sent along; environment variables and code are not.

    Raises:
        ConfigurationError: wandb cannot begin.
    """
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
        raise ConfigurationError(
            f"logging.wandb={cfg.logging.wandb} cannot begin ({error}): use logging.wandb=offline"
        ) from error
    # wandb's own step only grows, and several groups are logged at one environment step.
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    return run
