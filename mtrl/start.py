"""The start of a run: it is new, continued, already finished, or refused.

A transfer run may first train its source, and afterwards a baseline from scratch.
"""

import logging
import sys
import time
from contextlib import closing
from copy import deepcopy
from pathlib import Path

from rich.console import Console

from mtrl.checks import replay_bytes
from mtrl.curriculum.stages import notices
from mtrl.errors import TRY_AGAIN, ConfigurationError, Preempted, TrainingNotFiniteError, used_up
from mtrl.experiment import Composition, compose_run, run_directory
from mtrl.rundir.lock import RunLock
from mtrl.rundir.models import described, find_model, prepare_directory, step_checkpoint, step_checkpoints
from mtrl.rundir.read import section
from mtrl.rundir.run import Run
from mtrl.rundir.write import numbered, write_json
from mtrl.signals import Signals
from mtrl.training.record import RunRecord
from mtrl.training.resume import changes_since, find_checkpoints, read_earlier_run

logger = logging.getLogger(__name__)

logger = logging.getLogger(__name__)
COMPARISON = "comparison.json"
"""The comparison of a transfer with its baseline, in its run directory."""
_NOT_OF_THE_RECIPE = ("experiment=", "dry_run=", "fresh=", "hydra.", "hydra/")
"""Overrides that choose the recipe or how to start it, and change nothing in it."""


def run_with_source_and_baseline(composition: Composition, *, wait: bool = False) -> int:
    """Run what was composed and the runs that ``transfer`` asks for; return the first exit code that is not 0, or 0.

    With ``wait``, another process may be training the same run, and is waited for.

    Raises:
        ConfigurationError: One of the runs cannot start; nothing of it was written.
    """
    cfg, path, source = composition.config, run_directory(composition), composition.source
    # A run that is finished or has a checkpoint does not need its source.
    earlier = None if cfg.fresh else read_earlier_run(path)
    continues = earlier is not None and (earlier.state == "finished" or bool(step_checkpoints(path)))
    if source is not None and (not continues or run_directory(source).exists()):
        code = run_with_source_and_baseline(source, wait=True)
        if code:
            return code
        if not cfg.dry_run:
            found = find_model(str(run_directory(source)), "the source run (transfer.train) ")
            # The directory of the run does not change: it depends on transfer.train, not on this path.
            composition = deepcopy(composition)
            model = composition.values["transfer"]["source"] = str(found.model.parent)
            composition.config.transfer.source = model
    if composition.config.transfer.source is not None and not continues:
        # Check the source now, before the run directory is made; train() reads it again.
        from mtrl.transfer.start import Transfer

        Transfer(composition.config, "" if source else composition.learned["transfer.from"])
    code = run_one(composition, wait=wait)
    if code or not (composition.config.transfer.baseline and composition.config.transfer.active):
        return code
    scratch = baseline(composition)
    code = run_one(scratch, wait=True)
    if code == 0 and not cfg.dry_run:
        from mtrl.transfer.comparison import compare, table

        other = run_directory(scratch)
        comparison = compare(path, other)
        write_json(path / COMPARISON, comparison)
        console = Console(markup=False)
        console.print(table(comparison))
        console.print(f"both curves: python -m mtrl.report {path} {other}", soft_wrap=True, highlight=False)
    return code


def baseline(composition: Composition) -> Composition:
    """Return the same run from scratch."""
    kept = [words for words in composition.overrides if not words.lstrip("+").startswith("transfer.")]
    none = ("transfer.source=null", "transfer.train=[]", "transfer.baseline=false")
    return compose_run([*kept, *none], user_overrides=kept)


def run_one(composition: Composition, *, wait: bool = False) -> int:
    """Show or run what was composed; return the exit code.

    With ``wait``, a process that holds the run directory is waited for; otherwise the run is refused.

    Raises:
        ConfigurationError: The run directory is in use, or holds something that this run cannot continue.
    """
    cfg, path = composition.config, run_directory(composition)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if cfg.dry_run:
        console.print(summary(composition, path))
        return 0
    # The terminal shows warnings; run.log keeps more of this project's own messages.
    level = logging.DEBUG if composition.verbose else logging.WARNING
    shown = logging.StreamHandler(sys.stderr)
    shown.setLevel(level)
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s", handlers=[shown])
    logging.getLogger("mtrl").setLevel(min(level, logging.INFO))
    logger.debug("options %s; what decides the directory: %s", composition.choices, composition.learned)
    if _print_if_finished(read_earlier_run(path), composition, path, console):
        return 0
    with closing(RunLock(path, wait=wait)) as lock, Signals() as signals:
        # Read under the lock: another process may have trained the run in between.
        earlier = read_earlier_run(path)
        if lock.waited and _print_if_finished(earlier, composition, path, console):
            return 0
        if earlier and cfg.fresh:
            stamp = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}")
            aside = next(each for each in numbered(stamp) if not each.exists())
            lock.move_aside(aside)
            console.print(f"the earlier run is now in {aside}")
            earlier = None
        prepare_directory(path)
        for problem in earlier.problems if earlier else ():
            logger.warning("%s", problem)
        changed = changes_since(earlier, composition)
        console.print(summary(composition, path))
        if changed:
            console.print(f"  changed since the first start: {changed}")
        record = RunRecord(path, composition, earlier.status if earlier else None, changed)
        same_command = "the same command without fresh=true" if cfg.fresh else "the same command"

        def record_interruption(signal: Preempted) -> str:
            record.fail("interrupted", str(signal))
            step = record.saved_at or record.earlier.get("checkpoint")
            saved = f"saved at step {step:,}" if isinstance(step, int) else "nothing was saved yet"
            return f"{signal}: {saved} in {path}; {same_command} continues the run"

        signals.message_at_exit = record_interruption
        with record.log():
            record.checkpoints = find_checkpoints(path, composition, record.earlier)
            # Imported late: torch takes seconds.
            from mtrl.train import train

            try:
                train(composition, record, signals)
            except Preempted as signal:
                console.print(record_interruption(signal))
                return signal.exit_code
            except BaseException as error:
                state, code = getattr(error, "state", "failed"), getattr(error, "exit_code", None)
                message, transition = str(error), None
                # A full disk raises a plain OSError in many places; with room again, the run continues.
                if code is None and (what := used_up(error)):
                    state, code, message = "interrupted", TRY_AGAIN, f"there is no more {what} ({error!r})"
                if isinstance(error, TrainingNotFiniteError):
                    newest = None if record.saved_at is None else step_checkpoint(path, record.saved_at)
                    message, transition = error.sentence(cfg.env.tasks, newest), error.transition
                record.fail(state, f"{type(error).__name__}: {message}", transition)
                if code is None or isinstance(error, ConfigurationError):
                    # Let bugs show their traceback; __main__ prints configuration errors.
                    raise
                again = f"; {same_command} tries again from the last checkpoint" if code == TRY_AGAIN else ""
                print(f"mtrl: {message}{again}", file=sys.stderr)
                return code
    console.print(f"run directory: {path}")
    return 0


def _print_if_finished(earlier: Run | None, composition: Composition, path: Path, console: Console) -> bool:
    """Print the result of a run that is finished and return True; return False where there is something to do."""
    cfg, enough = composition.config, composition.config.stop.success
    success = earlier.success if earlier else None
    if cfg.fresh or success is None:
        return False
    status, step = earlier.status, earlier.status["step"]
    if step < cfg.total_steps and (enough is None or success < enough):
        return False
    console.print(
        f"this run is finished: success {success:.1%} after {step:,} steps, in {path}; fresh=true trains from "
        "scratch, a larger total_steps (or another stop.success) continues it"
    )
    stage, start_stage = section(status, "curriculum").get("stage"), cfg.curriculum.start_stage
    if isinstance(stage, int) and stage < start_stage:
        console.print(
            f"it ended in stage {stage}: with a larger total_steps, the run continues in stage {start_stage} "
            "(curriculum.start_stage)"
        )
    return True


def summary(composition: Composition, path: Path) -> str:
    """Return what is about to run, in a few lines."""
    cfg, choices, source = composition.config, composition.choices, composition.config.transfer.source
    tasks = ", ".join(cfg.env.tasks) if len(cfg.env.tasks) <= 3 else f"{len(cfg.env.tasks)} tasks"
    overrides = [words.lstrip("+") for words in composition.user_overrides]
    own = ", ".join(words for words in overrides if not words.startswith(_NOT_OF_THE_RECIPE)) or "none"
    horizon, evaluated = cfg.env.horizon, cfg.evaluation.horizon
    lengths = f"horizon {horizon}" + (f", evaluated at {evaluated}" if evaluated != horizon else "")
    lines = [
        f"{choices['experiment']} · {choices['algo']} · {choices['variant']} · seed {cfg.seed} · {tasks}",
        f"  {cfg.total_steps:,} environment steps on {cfg.n_envs} environments, reward {cfg.env.reward}, {lengths}",
        f"  overrides of the recipe: {own}",
        *([f"  begins from {described(source)}"] if source and Path(source).exists() else []),
        *(f"  curriculum: {notice}" for notice in notices(cfg)),
        f"  memory: {replay_bytes(cfg) / 2**20:,.0f} MiB replay buffer when full",
        f"  run directory: {path}",
    ]
    return "\n".join(lines)
