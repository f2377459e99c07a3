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
from mtrl.rundir.models import read_lineage, write_lineage
from mtrl.signals import Signals
from mtrl.training.callbacks import RunCallbacks, Stop
from mtrl.training.record import RunRecord
from mtrl.training.resume import check_hardware, find_checkpoint, reuse_hardware
from mtrl.transfer.start import freeze, prepare_transfer, source_success


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
    chosen = choose_hardware(cfg, record.earlier if checkpoint else None)
    done = checkpoint.step if checkpoint else 0
    if checkpoint is None:
        record.start(chosen)
    env, agent, curriculum = build(cfg, chosen, done)
    try:
        resumed_at = done if checkpoint or record.earlier else None
        callbacks = RunCallbacks(cfg, chosen, record, store, signals, curriculum, resumed_at)
        lineage = None
        with contextlib.closing(callbacks):
            if checkpoint:
                lineage = read_lineage(record.path) if cfg.transfer.active else None
                callbacks.checkpoints.restore(checkpoint, agent)
                # Not before: a checkpoint that is refused leaves what is written about the run as it was.
                record.start(chosen, done)
                callbacks.logging.view.say(f"continuing from step {done:,}")
            elif transfer:
                lineage = transfer.begin(agent)
                before = source_success(cfg, chosen, agent, lineage, signals.check)
                lineage["source_success"] = {"before": before}
                write_lineage(record.path, lineage)
            if lineage is not None:
                record.update(transfer=lineage)
            with contextlib.suppress(Stop):
                agent.learn(
                    cfg.total_steps - done,
                    callback=callbacks,
                    log_interval=None,
                    reset_num_timesteps=checkpoint is None,
                )
            result = callbacks.final_evaluation()
        callbacks.show(result)
        if lineage is not None:
            # Before the run counts as finished: a finished run is not started again to measure this.
            after = source_success(cfg, chosen, agent, lineage, signals.check)
            lineage["source_success"] = {**lineage.get("source_success", {}), "after": after}
            record.update(transfer=lineage)
        record.finish(agent.num_timesteps, result)
        return result
    finally:
        env.close()


def build(
    cfg: Config, chosen: Hardware, done: int = 0
) -> tuple[VecEnv, OffPolicyAlgorithm, Curriculum | None]:
    """Return the training environments, the agent on them, and the curriculum, whose first stage has begun.

    Args:
        cfg: The run.
        chosen: What it uses of the machine, from ``choose_hardware``.
        done: Environment steps that earlier starts made.

    Raises:
        ConfigurationError: The algorithm refuses ``algo.kwargs``.
    """
    env = make_training_env(cfg, chosen, done)
    try:
        agent = make_agent(cfg, env, chosen)
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
        earlier: The status of the start that is continued: what ``cfg`` leaves open is chosen as there.

    Raises:
        ConfigurationError: The environment backend cannot serve, or the run cannot be continued with the choices.
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
