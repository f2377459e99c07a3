"""From a checked configuration to a run that is new, done already, or refused; and how its end is told."""

import logging
import sys
from pathlib import Path

from rich.console import Console

from mtrl.checks import replay_bytes
from mtrl.compose import Composition
from mtrl.identity import differences, run_directory

INTERRUPTED = 130
"""Exit code of a run that Ctrl-C ended: 128 + SIGINT."""


def run_once(composition: Composition) -> int:
    """Show or run what was composed; return the exit code."""
    cfg, path = composition.config, run_directory(composition)
    console = Console(highlight=False)
    if cfg.dry_run:
        console.print(summary(composition, path), soft_wrap=True)
        return 0
    logging.basicConfig(
        level=logging.DEBUG if composition.verbose else logging.WARNING,
        format="%(levelname)s: %(message)s",
        stream=sys.stderr,
    )

    from mtrl.recorder import Recorder

    directory = Recorder(path)
    status = directory.status()
    if status and status["state"] == "finished" and not cfg.fresh:
        result = status["result"]
        console.print(
            f"this run is finished: success {result['success_rate']:.1%} after {status['step']:,} steps, in {path}; "
            "fresh=true trains anew",
            soft_wrap=True,
        )
        return 0
    aside = directory.move_aside()
    if aside is not None:
        console.print(f"the earlier run is now in {aside}", soft_wrap=True)
    console.print(summary(composition, path), soft_wrap=True)
    return _train(composition, directory, console)


def _train(composition: Composition, directory: "Recorder", console: Console) -> int:  # noqa: F821
    from mtrl.run import train

    try:
        train(composition, directory)
    except KeyboardInterrupt:
        directory.fail("interrupted", "Ctrl-C")
        console.print(f"interrupted; what there is lies in {directory.path}", soft_wrap=True)
        return INTERRUPTED
    except BaseException as error:
        # Only the status is written here; the error itself goes on.
        directory.fail("failed", f"{type(error).__name__}: {error}")
        raise
    console.print(f"run directory: {directory.path}", soft_wrap=True)
    return 0


def summary(composition: Composition, path: Path) -> str:
    """Return what is about to run, in a few lines."""
    cfg = composition.config
    tasks = ", ".join(cfg.env.tasks) if len(cfg.env.tasks) <= 3 else f"{len(cfg.env.tasks)} tasks"
    changed = differences(composition, from_recipe=True)
    said = ", ".join(f"{key}={value}" for key, value in sorted(changed.items())) or "none"
    choices = composition.choices
    return "\n".join(
        [
            f"{choices['experiment']} · {choices['algo']} · {choices['variant']} · seed {cfg.seed} · {tasks}",
            f"  {cfg.total_steps:,} environment steps on {cfg.n_envs} environments, "
            f"reward {cfg.env.reward}, horizon {cfg.env.horizon}",
            f"  overrides of the recipe: {said}",
            f"  memory: {replay_bytes(cfg) / 2**20:,.0f} MiB replay buffer when full",
            f"  run directory: {path}",
        ]
    )
