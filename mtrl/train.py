"""One run: environments, agent, callbacks, learning, final evaluation. Read this module first."""

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from mtrl import hardware
from mtrl.algo.make import make_agent
from mtrl.checkpoint.store import Store
from mtrl.config.types import Config, HardwareConfig
from mtrl.curriculum.curriculum import Curriculum
from mtrl.curriculum.stages import stages_of
from mtrl.env.make import choose_backend, make_training_env
from mtrl.evaluation.protocol import Evaluation
from mtrl.experiment import Composition
from mtrl.rundir.models import LINEAGE, read_lineage
from mtrl.rundir.write import write_json
from mtrl.signals import Signals
from mtrl.training.callbacks import RunCallbacks, Stop
from mtrl.training.record import RunRecord
from mtrl.training.resume import check_hardware, earlier_hardware, reuse_hardware
from mtrl.transfer.start import Transfer, freeze, source_success

logger = logging.getLogger(__name__)


def train(composition: Composition, record: RunRecord, signals: Signals) -> Evaluation:
    """Train, from the newest checkpoint if there is one, and return the final evaluation.

    ConfigurationError if the run directory holds something that this run cannot continue, and then nothing was
    changed; Preempted if a signal ended the run, which is saved.
    """
    cfg, path = composition.config, record.path
    store = Store(path, cfg.checkpoint.keep, composition.values, record.checkpoints)
    checkpoint, transfer = next(iter(record.checkpoints), None), None
    if checkpoint is None and cfg.transfer.source is not None:
        # It decides the name of the directory, unless that says how to train it.
        transfer = Transfer(cfg, "" if composition.source else composition.learned["transfer.from"])
    machine = choose_hardware(cfg, earlier_hardware(checkpoint, record.earlier))
    store.facts["hardware"] = asdict(machine)
    steps_done = checkpoint.step if checkpoint else 0
    logger.debug("from step %d on %s", steps_done, machine)
    if checkpoint is None:
        record.start(machine)
    # 0 if an earlier start ended before its first checkpoint: what it logged is replaced. None for a new run.
    resumed_at = steps_done if checkpoint or record.earlier else None
    env, agent, curriculum = build(cfg, machine, steps_done)
    with contextlib.ExitStack() as stack:
        stack.callback(env.close)
        callbacks = RunCallbacks(cfg, machine, record, store, signals, curriculum, resumed_at)
        stack.callback(callbacks.close)
        lineage = None
        if checkpoint:
            # Before record.start(), which writes status.json again: runs of version 0.1.0 have it only there.
            if cfg.transfer.active:
                lineage = checkpoint.lineage or read_lineage(path)
            callbacks.restore(checkpoint, agent)
            # Only after restoring: if the checkpoint is refused, the run's files must stay unchanged.
            record.start(machine, steps_done)
            callbacks.logs.view.say(f"continuing from step {steps_done:,}")
        elif transfer:
            # What the source has learned, how well it does its tasks, and a record of where the weights come from.
            lineage = transfer.begin(agent)
            before = source_success(cfg, machine, agent, lineage, signals.check)
            lineage["source_success"] = {"before": before}
        if lineage is not None:
            store.facts["lineage"] = lineage
            write_json(path / LINEAGE, lineage)
            record.update(transfer=lineage)
        elif cfg.transfer.active:
            logger.warning("what this run began with is recorded nowhere: what it forgets is not measured")
        with contextlib.suppress(Stop):
            agent.learn(
                cfg.total_steps - steps_done,
                callback=callbacks,
                log_interval=None,
                reset_num_timesteps=checkpoint is None,
            )
        result = callbacks.finish()
        if lineage is not None:
            # Must happen before record.finish(): a finished run is never started again, so this would never be
            # measured.
            after = source_success(cfg, machine, agent, lineage, signals.check)
            lineage["source_success"] = {**lineage.get("source_success", {}), "after": after}
            record.update(transfer=lineage)
        record.finish(agent.num_timesteps, result)
        return result


def build(
    cfg: Config, machine: HardwareConfig, steps_done: int = 0
) -> tuple[VecEnv, OffPolicyAlgorithm, Curriculum | None]:
    """Return the training environments, the agent on them, and the curriculum, whose first stage has begun.

    ``steps_done`` counts the environment steps of earlier starts.
    """
    env = make_training_env(cfg, machine, steps_done)
    try:
        agent = make_agent(cfg, env, machine)
        # The callbacks write the logs; stable-baselines3's own logger only collects what the algorithm records.
        agent.set_logger(Logger(folder=None, output_formats=[]))
        if cfg.transfer.active:
            freeze(cfg, agent)
        return env, agent, Curriculum(cfg, env) if stages_of(cfg) else None
    except BaseException:
        env.close()
        raise


def choose_hardware(cfg: Config, earlier: Mapping[str, Any] | None = None) -> HardwareConfig:
    """Return what a run uses of this machine; settings left open reuse the choices of ``earlier`` starts."""
    before = earlier or {}
    asked = reuse_hardware(cfg.hardware, before)
    backend = choose_backend(asked.backend, cfg.env.tasks, cfg.env.reward)
    check_hardware(cfg, before, backend)
    return hardware.choose(cfg, replace(asked, backend=backend))
