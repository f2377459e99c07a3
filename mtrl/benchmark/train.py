"""Environment steps per second of a whole run with its evaluations, against stable-baselines3's SAC.

Both learn with the same hyperparameters as far as stable-baselines3 has them, in blocks and in turns. Each block
includes its share of the official evaluation (50 episodes a task every 100,000 steps): so many steps of the
deterministic policy on evaluation environments. Ours runs as ``python -m mtrl`` would: its environments, logs and
metrics. "bare" is the same agent without callbacks: no logs, metrics, progress and looking for signals. The other
runs on Meta-World's own classes in a DummyVecEnv.
"""

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtrl.benchmark.pairing import Rates, medians, ratio, take_turns
from mtrl.tasks import GOALS

if TYPE_CHECKING:
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

    from mtrl.config.types import Config
    from mtrl.experiment import Composition

_EVALUATE_EVERY = 100_000
_NEVER = ("evaluation.every=1e12", "checkpoint.every=1e12", "checkpoint.minutes=1e9", "total_steps=1e12")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this subcommand."""
    words = "as for python -m mtrl (experiment=mt10)"
    parser.add_argument("overrides", nargs="*", default=["experiment=mt10"], help=words)
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds (5)")
    parser.add_argument("--steps", type=int, default=500, help="environment steps of a block (500)")
    parser.add_argument("--threads", type=int, help="threads of torch for ours (what hardware=auto chooses)")
    cores = os.cpu_count()
    parser.add_argument("--sb3-threads", type=int, default=cores, help="the same for the other (all cores)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and return environment steps per second.

    ``train_over_sb3`` is how many times faster ours is, ``lost`` the share of its speed that callbacks take.
    """
    import torch

    from mtrl.experiment import compose_run

    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        composition = compose_run([*_NEVER, f"output={folder}", *arguments.overrides])
        try:
            rates, machine = _measure(composition, Path(folder) / "run", arguments)
        finally:
            torch.set_num_threads(threads)
    return {
        "overrides": arguments.overrides,
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "hardware": machine,
        "sb3_threads": arguments.sb3_threads,
        **medians(rates),
        "train_over_sb3": ratio(rates, "ours", "sb3"),
        "lost": 1 - ratio(rates, "ours", "bare"),
        "rates": rates,
    }


def _measure(
    composition: "Composition", path: Path, arguments: argparse.Namespace
) -> tuple[Rates, dict[str, Any]]:
    from stable_baselines3.common.logger import Logger

    from mtrl.checkpoint.store import Store
    from mtrl.env.make import make_evaluation_env, make_vec_env
    from mtrl.signals import Signals
    from mtrl.train import build, choose_hardware
    from mtrl.training.callbacks import RunCallbacks
    from mtrl.training.record import RunRecord

    cfg = composition.config
    machine = choose_hardware(cfg)
    record = RunRecord(path, composition)
    record.start(machine)
    stock = {"task_id": cfg.variant.task_id, "horizon": cfg.env.horizon, "reward": cfg.env.reward}
    stock |= {"seed": cfg.seed, "backend": "stock", "workers": 1}
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(Signals())
        env, ours, _ = build(cfg, machine)
        evaluated = make_evaluation_env(cfg, machine)
        horizons = ({}, {"horizon": cfg.evaluation.horizon})
        stock_envs = [
            make_vec_env(cfg.env.tasks, cfg.env.copies_per_task, **stock | horizon) for horizon in horizons
        ]
        callbacks = RunCallbacks(cfg, machine, record, Store(path), signals)
        for part in (env, evaluated, *stock_envs, callbacks):
            stack.callback(part.close)
        other = _stock_agent(cfg, stock_envs[0], machine.device)
        other.set_logger(Logger(folder=None, output_formats=[]))
        for agent in (ours, other):
            # Past the random actions, so that every block has its updates.
            agent.learn(int(cfg.algo.learning_starts) + agent.n_envs, log_interval=None)
        own_threads = arguments.threads or machine.torch_threads
        play, play_other = _player(ours, evaluated), _player(other, stock_envs[1])
        work = (arguments.steps, len(cfg.env.tasks) * GOALS * cfg.evaluation.horizon / _EVALUATE_EVERY)
        blocks = {
            "ours": _block(ours, callbacks, play, own_threads, *work),
            "bare": _block(ours, None, play, own_threads, *work),
            "sb3": _block(other, None, play_other, arguments.sb3_threads, *work),
        }
        rates = take_turns(blocks, arguments.rounds)
    return rates, machine.as_dict() | {"torch_threads": own_threads}


def _stock_agent(cfg: "Config", env: "VecEnv", device: str) -> "OffPolicyAlgorithm":
    from stable_baselines3 import SAC

    from mtrl.algo.make import update_schedule

    train_freq, gradient_steps = update_schedule(cfg.algo, env.num_envs)
    layers = {"pi": list(cfg.variant.actor_layers), "qf": list(cfg.variant.critic_layers)}
    return SAC(
        "MlpPolicy",
        env,
        learning_rate=cfg.algo.learning_rate,
        buffer_size=int(cfg.algo.buffer_size),
        learning_starts=int(cfg.algo.learning_starts),
        batch_size=cfg.algo.batch_size,
        tau=cfg.algo.tau,
        gamma=cfg.algo.gamma,
        n_steps=cfg.algo.n_steps,
        train_freq=train_freq,
        gradient_steps=gradient_steps,
        policy_kwargs={"net_arch": layers},
        seed=cfg.seed,
        device=device,
    )


def _player(agent: "OffPolicyAlgorithm", env: "VecEnv") -> Callable[[float], None]:
    """Return what plays so many environment steps of the deterministic policy, from where it stopped."""
    obs = env.reset()

    def play(steps: float) -> None:
        nonlocal obs
        for _ in range(max(1, round(steps / env.num_envs))):
            actions, _ = agent.predict(obs, deterministic=True)
            obs, _, _, _ = env.step(actions)

    return play


def _block(
    agent: "OffPolicyAlgorithm",
    callback: Any,
    play: Callable[[float], None],
    threads: int,
    steps: int,
    evaluation_steps: float,
) -> Callable[[], float]:
    """Return a block of ``steps``, each followed by its ``evaluation_steps``."""
    import torch

    def learn_and_evaluate() -> float:
        torch.set_num_threads(threads)
        first, started = agent.num_timesteps, time.perf_counter()
        agent.learn(steps, callback=callback, log_interval=None, reset_num_timesteps=False)
        done = agent.num_timesteps - first
        play(done * evaluation_steps)
        return done / (time.perf_counter() - started)

    return learn_and_evaluate
