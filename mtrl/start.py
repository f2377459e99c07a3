"""A run and the runs it needs: the source of a transfer before it, the same run from scratch after it."""

import errno
import logging
import sys
import time
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

from rich.console import Console

from mtrl.checks import replay_bytes
from mtrl.config import Config, HardwareConfig
from mtrl.config.compose import Composition, compose_run
from mtrl.curriculum.stages import notices
from mtrl.errors import (
    TRY_AGAIN,
    ConfigurationError,
    DamagedError,
    NonFinite,
    Preempted,
    RunEndedError,
    RunError,
)
from mtrl.experiment import is_learned, run_directory, source_run
from mtrl.hardware import cuda_available
from mtrl.rundir.lock import RunLock
from mtrl.rundir.models import described, find_model
from mtrl.rundir.read import read_json
from mtrl.rundir.run import Run, flatten
from mtrl.signals import Signals
from mtrl.training.record import Recorder

logger = logging.getLogger(__name__)

_VOLATILE = ("fresh", "dry_run", "output", "task", "experiment", "seed", "phase")
"""Keys that say nothing about the run itself, or that others spell out."""
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Earlier:
    """The files of an earlier start."""

    config: dict[str, Any] | None
    """None where ``config.yaml`` is missing or damaged."""
    status: dict[str, Any]
    """Empty where ``status.json`` is missing or damaged."""

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.status.get("state") == "finished" and isinstance(self.status.get("result"), dict)

    def is_done(self, total_steps: int, enough: float | None) -> bool:
        """Tell whether the run came to its end, and nothing more is asked for now.

        Args:
            total_steps: Environment steps asked for now.
            enough: Success rate that ends the run now; None where only the steps do.
        """
        if not self.finished:
            return False
        solved = enough is not None and self.status["result"]["success_rate"] >= enough
        return solved or int(self.status.get("step", 0)) >= total_steps


def read_earlier(path: Path) -> Earlier | None:
    """Return what is in a run directory, or None where no run has started."""
    if not any((path / name).exists() for name in ("config.yaml", "status.json", "checkpoints")):
        return None
    try:
        run = Run(path)
    except RunError:
        return Earlier(None, _status(path))
    return Earlier(run.config, run.status)


def _status(path: Path) -> dict[str, Any]:
    try:
        return read_json(path / "status.json")
    except DamagedError:
        return {}


def changed_keys(earlier: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys with other values than an earlier configuration had, as (earlier, now).

    A key that the earlier configuration lacks was added to the project since; its value then was its default.

    Raises:
        ConfigurationError: One of them decides what is learned.
    """
    before, after = flatten(earlier), flatten(now)
    changed = {
        key: (before[key], after.get(key, _ABSENT))
        for key in before
        if not key.startswith("choices.") and before[key] != after.get(key, _ABSENT)
    }
    learned = [key for key in changed if is_learned(key)]
    if learned:
        said = ", ".join(
            f"{key} ({_said(changed[key][0])} there, {_said(changed[key][1])} now)" for key in learned
        )
        raise ConfigurationError(
            f"the run directory holds another configuration: {said}; give the earlier values, or train anew "
            "with fresh=true"
        )
    return {key: values for key, values in changed.items() if key.split(".")[0] not in _VOLATILE}


def added_keys(earlier: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the keys that an earlier configuration lacks."""
    return sorted(flatten(now).keys() - flatten(earlier).keys())


def describe_change(changed: dict[str, tuple[Any, Any]]) -> str:
    """Return changes as ``key: earlier -> now``."""
    return ", ".join(f"{key}: {_said(old)} -> {_said(new)}" for key, (old, new) in changed.items())


def _said(value: object) -> str:
    return "absent" if value is _ABSENT else str(value)


def reuse_hardware(cfg: HardwareConfig, earlier: dict[str, Any]) -> HardwareConfig:
    """Return ``cfg`` with what it leaves open as an earlier start chose it: all is rounded as before.

    What is no longer there (a GPU) is chosen anew.
    """
    hardware = earlier.get("hardware")
    if not isinstance(hardware, dict):
        return cfg
    reused: dict[str, Any] = {}
    if cfg.device == "auto" and hardware.get("device") == "cpu":
        reused["device"] = "cpu"
    device, before = reused.get("device", cfg.device), hardware.get("device")
    same = device == before or (device == "auto" and isinstance(before, str) and cuda_available(before))
    if cfg.compile == "auto" and same and hardware.get("compile") is not None:
        reused["compile"] = hardware["compile"]
    if cfg.backend == "auto" and hardware.get("backend") == "stock":
        reused["backend"] = "stock"
    for key in ("workers", "threads", "torch_threads"):
        if getattr(cfg, key) is None and isinstance(hardware.get(key), int):
            reused[key] = hardware[key]
    return replace(cfg, **reused)


def check_layer_norm(cfg: Config, earlier: dict[str, Any]) -> None:
    """Refuse to continue a run that version 0.1.0 trained with its compiled LayerNorm, which rounded otherwise.

    Raises:
        ConfigurationError: The run is such a run.
    """
    hardware = earlier.get("hardware")
    compiled = isinstance(hardware, dict) and hardware.get("layer_norm") == "compiled"
    if cfg.variant.layer_norm and compiled:
        raise ConfigurationError(
            "this run was trained with the compiled LayerNorm of mtrl 0.1.0, which this version does not have: "
            "continue it with mtrl 0.1.0, start a new run from its weights with transfer.source=, or train anew with "
            "fresh=true"
        )


def aside_name(path: Path) -> Path:
    """Return the name under which a run directory is kept when another run takes its place."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside, number = path.with_name(f"{path.name}.{stamp}"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.{stamp}-{number}")
    return aside


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
    from mtrl.train import train

    directory = start.directory
    try:
        train(start)
    except Preempted as signal:
        console.print(start.interrupted(signal), soft_wrap=True)
        return signal.exit_code
    except RunEndedError as error:
        if isinstance(error, ConfigurationError):
            # The command says it; a run that has begun notes it.
            directory.fail("failed", f"{type(error).__name__}: {error}")
            raise
        message = str(error)
        if isinstance(error, NonFinite):
            directory.dump(error.transition)
            message = error.told(start.composition.config.env.tasks, directory.newest)
        return _end(start, error, error.state, error.exit_code, message)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            return _end(start, error, "interrupted", TRY_AGAIN, str(error))
        # Only the status is written here; the error itself goes on.
        directory.fail("failed", f"{type(error).__name__}: {error}")
        raise
    console.print(f"run directory: {directory.path}", soft_wrap=True)
    return 0


def _end(start: Start, error: BaseException, state: str, code: int, message: str) -> int:
    """Write down and say why the run ends, and return the exit code."""
    start.directory.fail(state, f"{type(error).__name__}: {message}")
    again = f"; {start.same_command} tries again from the last checkpoint" if code == TRY_AGAIN else ""
    print(f"mtrl: {message}{again}", file=sys.stderr)
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


COMPARISON = "comparison.json"
"""What a transfer came to beside its baseline, in its run directory."""


def run_all(composition: Composition, *, shared: bool = False) -> int:
    """Run what was composed and what ``transfer`` asks for around it; return the first exit code but 0.

    Args:
        composition: The run.
        shared: Others may need the same run: where one of them is at it, wait for what it comes to.

    Raises:
        ConfigurationError: One of the runs cannot start; nothing of it was written.
    """
    begun = _begun(composition)
    first = source_run(composition)
    if first is not None and not (begun and not run_directory(first).exists()):
        code = run_all(first, shared=True)
        if code:
            return code
        if not composition.config.dry_run:
            composition = _from(composition, _model_of(first))
    if composition.config.transfer.source is not None and not begun:
        # Refused before the directory is made; the run itself reads the source once more.
        from mtrl.transfer.start import prepare_transfer

        prepare_transfer(composition.config)
    code = run_once(composition, wait=shared)
    if code or not (composition.config.transfer.baseline and composition.config.transfer.active):
        return code
    scratch = baseline(composition)
    code = run_once(scratch, wait=True)
    if code == 0 and not composition.config.dry_run:
        _compare_with_baseline(composition, scratch)
    return code


def _from(composition: Composition, source: str) -> Composition:
    """Return the same run, told where its source is; its identity is that of the run that was trained."""
    told = deepcopy(composition)
    told.config.transfer.source = told.values["transfer"]["source"] = source
    return told


def _model_of(first: Composition) -> str:
    path = run_directory(first)
    try:
        return str(find_model(str(path)).model.parent)
    except ConfigurationError as error:
        raise ConfigurationError(f"the run of transfer.train left no model: {error}") from error


def _begun(composition: Composition) -> bool:
    """Tell whether the run will go on from what it has left, without its source."""
    path = run_directory(composition)
    if composition.config.fresh or not (path / "config.yaml").is_file():
        return False
    return Run(path).state == "finished" or any((path / "checkpoints").glob("step_*"))


def baseline(composition: Composition) -> Composition:
    """Return the same run from scratch."""
    kept = [words for words in composition.overrides if not words.lstrip("+").startswith("transfer.")]
    scratch = compose_run([*kept, "transfer.source=null", "transfer.train=[]", "transfer.baseline=false"])
    return replace(scratch, said=tuple(kept))


def _compare_with_baseline(composition: Composition, scratch: Composition) -> None:
    from mtrl.rundir.write import write_json
    from mtrl.transfer.comparison import compare, table

    path, other = run_directory(composition), run_directory(scratch)
    comparison = compare(path, other)
    write_json(path / COMPARISON, comparison)
    console = Console(markup=False)
    console.print(table(comparison))
    console.print(f"both curves: python -m mtrl.report {path} {other}", soft_wrap=True, highlight=False)
