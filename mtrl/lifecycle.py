"""From a checked configuration to a run that is new, goes on, is done, or refused; and how its end is told.

Exit codes: 0 done, 1 a bug, 2 refused, 75 try again, 128 + signal when a signal ended it.
"""

import errno
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from rich.console import Console

from mtrl.checks import replay_bytes
from mtrl.compose import Composition
from mtrl.config import Config
from mtrl.earlier import Earlier, added_keys, aside_name, changed_keys, describe_change, read_earlier
from mtrl.identity import run_directory
from mtrl.lock import RunLock
from mtrl.recorder import Recorder
from mtrl.signals import Preempted, Signals
from mtrl.sources import described
from mtrl.stages import notices

logger = logging.getLogger(__name__)

FAILED, REFUSED, TRY_AGAIN = 1, 2, 75
_ORDERS = ("experiment=", "dry_run=", "fresh=", "hydra.", "hydra/")
"""Words that choose the recipe or how to start it, and change nothing of what it says."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def run_once(composition: Composition, *, wait: bool = False) -> int:
    """Show or run what was composed; return the exit code.

    Args:
        composition: The run.
        wait: Where another process is at it, wait for what it leaves instead of refusing.

    Raises:
        ConfigurationError: The run directory is in use, or holds what this run cannot go on with.
    """
    cfg, path = composition.config, run_directory(composition)
    console = Console(highlight=False, markup=False)
    if cfg.dry_run:
        console.print(summary(composition, path), soft_wrap=True)
        return 0
    shown = logging.StreamHandler(sys.stderr)
    shown.setLevel(logging.DEBUG if composition.verbose else logging.WARNING)
    logging.basicConfig(level=shown.level, format="%(levelname)s: %(message)s", handlers=[shown])
    # run.log keeps more of our own than the terminal shows.
    logging.getLogger("mtrl").setLevel(logging.DEBUG if composition.verbose else logging.INFO)
    earlier = read_earlier(path)
    if _is_done(earlier, cfg):
        _tell_finished(earlier, path, console, cfg.curriculum.start_stage)
        return 0
    with RunLock(path, wait=wait) as lock, Signals() as signals:
        earlier = read_earlier(path)
        if lock.waited and _is_done(earlier, cfg):
            _tell_finished(earlier, path, console, cfg.curriculum.start_stage)
            return 0
        if earlier and cfg.fresh:
            aside = aside_name(path)
            lock.move_aside(aside)
            console.print(f"the earlier run is now in {aside}", soft_wrap=True)
            earlier = None
        changed = _compare(earlier, composition)
        console.print(summary(composition, path), soft_wrap=True)
        if changed:
            console.print(f"  changed since the first start: {changed}", soft_wrap=True)
        start = Start(composition, Recorder(path), signals, earlier.status if earlier else {}, changed)
        signals.farewell = start.interrupted
        with start.directory.log():
            return _train(start, console)


def _is_done(earlier: Earlier | None, cfg: Config) -> TypeGuard[Earlier]:
    return earlier is not None and not cfg.fresh and earlier.is_done(cfg.total_steps, cfg.stop.success)


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a run: what to do, where, and what earlier starts left."""

    composition: Composition
    directory: Recorder
    signals: Signals
    earlier: dict[str, Any]
    """The status of the last start; empty for a new run."""
    changed: str = ""
    """What this start does otherwise than the first."""

    def interrupted(self, signal: Preempted) -> str:
        """Write down that a signal ends this start, and return what to tell about it."""
        self.directory.fail("interrupted", str(signal))
        step = self.directory.saved_at or self.earlier.get("checkpoint")
        saved = f"saved at step {step:,}" if isinstance(step, int) else "nothing was saved yet"
        return f"{signal}: {saved} in {self.directory.path}; {self.same_command} goes on"

    @property
    def same_command(self) -> str:
        """How a hint calls the command that goes on with this run."""
        return "the same command without fresh=true" if self.composition.config.fresh else "the same command"


def _tell_finished(earlier: Earlier, path: Path, console: Console, start_stage: int) -> None:
    success, step = earlier.status["result"]["success_rate"], earlier.status["step"]
    console.print(
        f"this run is finished: success {success:.1%} after {step:,} steps, in {path}; "
        "fresh=true trains anew, a larger total_steps (or another stop.success) goes on",
        soft_wrap=True,
    )
    curriculum = earlier.status.get("curriculum")
    stage = curriculum.get("stage") if isinstance(curriculum, dict) else None
    if isinstance(stage, int) and stage < start_stage:
        console.print(
            f"it ended in stage {stage}: with a larger total_steps, curriculum.start_stage={start_stage} "
            "goes on there",
            soft_wrap=True,
        )


def _compare(earlier: Earlier | None, composition: Composition) -> str:
    """Refuse to go on with another configuration; say what else changed."""
    if earlier is None:
        return ""
    if earlier.config is None:
        logger.warning("config.yaml is missing or damaged: the one in the checkpoint counts")
        return ""
    added = added_keys(earlier.config, composition.values)
    if added:
        logger.warning("keys that the first start did not know: %s", ", ".join(added))
    return describe_change(changed_keys(earlier.config, composition.values))


def _train(start: Start, console: Console) -> int:
    from mtrl.algo import NonFinite
    from mtrl.checkpoint import CheckpointFailedError, DamagedError
    from mtrl.env.arguments import NotFiniteError
    from mtrl.env.workers import WorkerError, WorkerLostError
    from mtrl.metrics import UnstableError
    from mtrl.run import train

    directory = start.directory
    try:
        train(start)
    except Preempted as signal:
        console.print(start.interrupted(signal), soft_wrap=True)
        return signal.exit_code
    except (WorkerLostError, CheckpointFailedError) as error:
        return _end(start, "interrupted", error, TRY_AGAIN)
    except DamagedError as error:
        return _end(start, "failed", error, REFUSED)
    except NonFinite as error:
        directory.dump(error.transition)
        told = error.told(start.composition.config.env.tasks, directory.newest)
        return _end(start, "failed", error, FAILED, told)
    except (NotFiniteError, WorkerError, UnstableError) as error:
        return _end(start, "failed", error, FAILED)
    except BaseException as error:
        full = isinstance(error, OSError) and error.errno in _NO_SPACE
        if full:
            return _end(start, "interrupted", error, TRY_AGAIN)
        # Only the status is written here; the error itself goes on.
        directory.fail("failed", f"{type(error).__name__}: {error}")
        raise
    console.print(f"run directory: {directory.path}", soft_wrap=True)
    return 0


def _end(start: Start, state: str, error: BaseException, code: int, told: str | None = None) -> int:
    """Write down and say why the run ends: ``told``, or what the error says of itself."""
    told = told or str(error)
    start.directory.fail(state, f"{type(error).__name__}: {told}")
    again = f"; {start.same_command} tries again from the last checkpoint" if code == TRY_AGAIN else ""
    print(f"mtrl: {told}{again}", file=sys.stderr)
    return code


def summary(composition: Composition, path: Path) -> str:
    """Return what is about to run, in a few lines."""
    cfg = composition.config
    tasks = ", ".join(cfg.env.tasks) if len(cfg.env.tasks) <= 3 else f"{len(cfg.env.tasks)} tasks"
    said = [words.lstrip("+") for words in composition.said]
    own = ", ".join(words for words in said if not words.startswith(_ORDERS)) or "none"
    choices = composition.choices
    source = cfg.transfer.source
    begins = [f"  begins from {described(source)}"] if source and Path(source).exists() else []
    return "\n".join(
        [
            f"{choices['experiment']} · {choices['algo']} · {choices['variant']} · seed {cfg.seed} · {tasks}",
            f"  {cfg.total_steps:,} environment steps on {cfg.n_envs} environments, "
            f"reward {cfg.env.reward}, horizon {cfg.env.horizon}",
            f"  overrides of the recipe: {own}",
            *begins,
            *(f"  curriculum: {notice}" for notice in notices(cfg)),
            f"  memory: {replay_bytes(cfg) / 2**20:,.0f} MiB replay buffer when full",
            f"  run directory: {path}",
        ]
    )
