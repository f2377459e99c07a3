"""One run: environments, agent, and what happens between its updates. ``train`` reads as the method."""

import contextlib
import logging
from typing import TYPE_CHECKING

from stable_baselines3.common.logger import Logger

from mtrl import hardware
from mtrl.algo.make import make_agent
from mtrl.checkpoint.store import Checkpoint, Store
from mtrl.curriculum.curriculum import begin_curriculum
from mtrl.env.make import choose_backend, make_training_env
from mtrl.errors import ConfigurationError, DamagedError
from mtrl.evaluation.protocol import Evaluation
from mtrl.rundir.environment import versions
from mtrl.rundir.models import read_lineage, write_lineage
from mtrl.start import changed_keys, check_layer_norm, reuse_hardware
from mtrl.training.callbacks import Session, Stop
from mtrl.transfer.start import freeze, prepare_transfer, source_success

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from mtrl.start import Start


def train(start: "Start") -> Evaluation:
    """Train, from the newest checkpoint if there is one, evaluate, and return the last evaluation.

    Raises:
        ConfigurationError: What the run directory holds cannot be gone on with; nothing was changed.
        Preempted: A signal ended the run; it is saved.
    """
    cfg, directory, check = start.composition.config, start.directory, start.signals.check
    store = Store(
        directory.path,
        keep=cfg.checkpoint.keep,
        configuration=start.composition.values,
        versions=versions(),
    )
    checkpoint = find_checkpoint(store, start)
    if checkpoint:
        check_layer_norm(cfg, start.earlier)
    transfer = None if checkpoint else prepare_transfer(cfg)
    open_choices = reuse_hardware(cfg.hardware, start.earlier) if checkpoint else cfg.hardware
    backend = _backend(start, open_choices.backend, continued=checkpoint is not None)
    work = hardware.update_work(cfg)
    chosen = hardware.choose(open_choices, backend, work, compiles=cfg.algo.compiles)
    done = checkpoint.step if checkpoint else 0
    lineage = read_lineage(directory.path) if checkpoint and cfg.transfer.active else None
    if checkpoint is None:
        _begin(start, chosen, done)
    env = make_training_env(cfg, chosen, done)
    session = None
    try:
        agent = make_agent(cfg, env, chosen)
        agent.set_logger(Logger(folder=None, output_formats=[]))
        if cfg.transfer.active:
            freeze(cfg, agent)
        resumed_at = done if start.earlier else None
        curriculum = begin_curriculum(cfg, env)
        session = Session(cfg, chosen, directory, store, start.signals, curriculum, resumed_at)
        if checkpoint:
            session.resume(checkpoint, agent)
            # Not before: a checkpoint that is refused leaves what is written about the run as it was.
            _begin(start, chosen, done)
            if lineage is not None:
                directory.note("transfer", lineage)
            session.view.say(f"continuing from step {checkpoint.step:,}")
        elif transfer is not None:
            lineage = transfer.begin(agent)
            lineage["source_success"] = {"before": source_success(cfg, chosen, agent, lineage, check)}
            write_lineage(directory.path, lineage)
            directory.note("transfer", lineage)
        with contextlib.suppress(Stop):
            agent.learn(
                cfg.total_steps - done,
                callback=session,
                log_interval=None,
                reset_num_timesteps=checkpoint is None,
            )
        result = session.finish()
        if lineage is not None:
            # Before the run counts as finished, for a finished one is not started again to make up for it.
            after = source_success(cfg, chosen, agent, lineage, check)
            lineage["source_success"] = {**lineage.get("source_success", {}), "after": after}
            directory.note("transfer", lineage)
        directory.finish(agent.num_timesteps, result)
        return result
    finally:
        if session is not None:
            session.close()
        env.close()


def _begin(start: "Start", chosen: hardware.Hardware, done: int) -> None:
    """Write down what is about to run."""
    start.directory.start(
        start.composition, chosen.as_dict(), step=done, earlier=start.earlier, changed=start.changed
    )


def _backend(start: "Start", asked: str, *, continued: bool) -> str:
    """Return the environment backend.

    Raises:
        ConfigurationError: It cannot serve, or is not the one whose state the checkpoint holds.
    """
    cfg = start.composition.config
    try:
        backend = choose_backend(asked, cfg.env.tasks, cfg.env.reward)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    before = start.earlier.get("hardware", {}).get("backend", backend)
    if continued and before != backend:
        raise ConfigurationError(
            f"this run's checkpoint holds {before} environments, which {backend} ones cannot go on with: "
            f"use hardware.backend={before} where it can serve, or train anew with fresh=true"
        )
    return backend


def find_checkpoint(store: Store, start: "Start") -> Checkpoint | None:
    """Return the checkpoint to go on from, or None for a run without one.

    Raises:
        ConfigurationError: There were checkpoints and none is whole, or it is another run's.
    """
    try:
        checkpoint = store.newest()
    except DamagedError as error:
        raise ConfigurationError(
            f"no checkpoint in {start.directory.path} is whole ({error}): train anew with fresh=true"
        ) from error
    if checkpoint is None:
        if start.earlier.get("checkpoint"):
            raise ConfigurationError(
                f"the checkpoints of {start.directory.path} are gone: put them back, or use fresh=true"
            )
        return None
    changed_keys(checkpoint.configuration, start.composition.values)
    now = versions()
    for name, version in checkpoint.versions.items():
        if now.get(name) != version:
            logger.warning("%s was %s at the last checkpoint and is %s now", name, version, now.get(name))
    return checkpoint
