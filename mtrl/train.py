"""One run: environments, agent, callbacks, learning, final evaluation. Read this module first."""

import contextlib
from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from mtrl import hardware
from mtrl.algo.make import make_agent
from mtrl.checkpoint.store import Store
from mtrl.config.types import Config
from mtrl.curriculum.curriculum import Curriculum, begin_curriculum
from mtrl.env.make import choose_backend, make_training_env
from mtrl.errors import ConfigurationError
from mtrl.evaluation.protocol import Evaluation
from mtrl.experiment import Composition
from mtrl.hardware import Hardware
from mtrl.rundir.environment import versions
from mtrl.rundir.models import LINEAGE, read_lineage
from mtrl.rundir.write import write_json
from mtrl.signals import Signals
from mtrl.training.callbacks import RunCallbacks, Stop
from mtrl.training.record import RunRecord
from mtrl.training.resume import check_hardware, find_checkpoint, reuse_hardware
from mtrl.transfer.start import Transfer, freeze, prepare_transfer, source_success


def train(composition: Composition, record: RunRecord, signals: Signals) -> Evaluation:
    """Train, from the newest checkpoint if there is one, and return the final evaluation.

    Raises:
        ConfigurationError: The run directory holds something that this run cannot continue; nothing was changed.
        Preempted: A signal ended the run; it is saved.
    """
    cfg = composition.config
    store = Store(
        record.path, keep=cfg.checkpoint.keep, configuration=composition.values, versions=versions()
    )
    checkpoint = find_checkpoint(store, composition, record.earlier)
    transfer = None if checkpoint else prepare_transfer(cfg)
    machine = choose_hardware(cfg, record.earlier if checkpoint else None)
    steps_done = checkpoint.step if checkpoint else 0
    if checkpoint is None:
        record.start(machine)
    env, agent, curriculum = build(cfg, machine, steps_done)
    try:
        # 0 if an earlier start ended before its first checkpoint: what it logged is replaced. None for a new run.
        resumed_at = steps_done if checkpoint or record.earlier else None
        callbacks = RunCallbacks(cfg, machine, record, store, signals, curriculum, resumed_at)
        with contextlib.closing(callbacks):
            if checkpoint:
                # Before record.start(), which writes status.json again: runs of version 0.1.0 have it only there.
                lineage = read_lineage(record.path) if cfg.transfer.active else None
                callbacks.checkpoints.restore(checkpoint, agent)
                # Only after restoring: if the checkpoint is refused, the run's files must stay unchanged.
                record.start(machine, steps_done)
                callbacks.logging.view.say(f"continuing from step {steps_done:,}")
            else:
                lineage = transfer and _begin_transfer(transfer, agent, machine, record, signals)
            if lineage is not None:
                record.update(transfer=lineage)
            with contextlib.suppress(Stop):
                agent.learn(
                    cfg.total_steps - steps_done,
                    callback=callbacks,
                    log_interval=None,
                    reset_num_timesteps=checkpoint is None,
                )
            result = callbacks.final_evaluation()
        callbacks.show(result)
        if lineage is not None:
            # Must happen before record.finish(): a finished run is never started again, so this would never be
            # measured.
            after = source_success(cfg, machine, agent, lineage, signals.check)
            lineage["source_success"] = {**lineage.get("source_success", {}), "after": after}
            record.update(transfer=lineage)
        record.finish(agent.num_timesteps, result)
        return result
    finally:
        env.close()


def _begin_transfer(
    transfer: Transfer, agent: OffPolicyAlgorithm, machine: Hardware, record: RunRecord, signals: Signals
) -> dict[str, Any]:
    """Give the agent what its source has learned; return and write the lineage, with the success before training."""
    lineage = transfer.begin(agent)
    before = source_success(transfer.cfg, machine, agent, lineage, signals.check)
    lineage["source_success"] = {"before": before}
    write_json(record.path / LINEAGE, lineage)
    return lineage


def build(
    cfg: Config, machine: Hardware, steps_done: int = 0
) -> tuple[VecEnv, OffPolicyAlgorithm, Curriculum | None]:
    """Return the training environments, the agent on them, and the curriculum, whose first stage has begun.

    Args:
        cfg: The run.
        machine: The devices, backend and threads that it uses, from ``choose_hardware``.
        steps_done: Environment steps already made by earlier starts of this run.

    Raises:
        ConfigurationError: The algorithm refuses ``algo.kwargs``.
    """
    env = make_training_env(cfg, machine, steps_done)
    try:
        agent = make_agent(cfg, env, machine)
        # The callbacks write the logs; stable-baselines3's own logger only collects what the algorithm records.
        agent.set_logger(Logger(folder=None, output_formats=[]))
        if cfg.transfer.active:
            freeze(cfg, agent)
        return env, agent, begin_curriculum(cfg, env)
    except BaseException:
        env.close()
        raise


def choose_hardware(cfg: Config, earlier: Mapping[str, Any] | None = None) -> Hardware:
    """Return what a run uses of this machine.

    Args:
        cfg: The run.
        earlier: ``status.json`` of the earlier start; settings left open reuse its choices.

    Raises:
        ConfigurationError: The environment backend is not available, or the run cannot be continued with the choices.
    """
    before = (earlier or {}).get("hardware")
    before = before if isinstance(before, dict) else {}
    asked = reuse_hardware(cfg.hardware, before)
    try:
        backend = choose_backend(asked.backend, cfg.env.tasks, cfg.env.reward)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    check_hardware(cfg, before, backend)
    return hardware.choose(asked, backend, hardware.update_work(cfg), compiles=cfg.algo.compiles)
