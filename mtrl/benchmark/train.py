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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from mtrl.algo.make import update_schedule
from mtrl.benchmark.pairing import Block, medians, ratio, take_turns
from mtrl.checkpoint.store import Store
from mtrl.config.types import Config
from mtrl.env.make import make_evaluation_env, make_vec_env
from mtrl.experiment import compose_run
from mtrl.signals import Signals
from mtrl.tasks import GOALS
from mtrl.train import build, choose_hardware
from mtrl.training.callbacks import RunCallbacks
from mtrl.training.record import RunRecord

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
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        composition = compose_run([*_NEVER, f"output={folder}", *arguments.overrides])
        cfg, path = composition.config, Path(folder) / "run"
        machine = choose_hardware(cfg)
        record = RunRecord(path, composition)
        record.start(machine)
        signals = stack.enter_context(Signals())
        env, ours, _ = build(cfg, machine)
        evaluated = make_evaluation_env(cfg, machine)
        options = {"task_id": cfg.variant.task_id, "seed": cfg.seed, "reward": cfg.env.reward}
        options |= {"backend": "stock", "workers": 1}
        stock, stock_evaluated = (
            make_vec_env(cfg.env.tasks, cfg.env.copies_per_task, horizon=horizon, **options)
            for horizon in (cfg.env.horizon, cfg.evaluation.horizon)
        )
        callbacks = RunCallbacks(cfg, machine, record, Store(path), signals)
        for part in (env, evaluated, stock, stock_evaluated, callbacks):
            stack.callback(part.close)
        other = _stock_agent(cfg, stock, machine.device)
        for agent in (ours, other):
            # Past the random actions, so that every block has its updates.
            agent.learn(int(cfg.algo.learning_starts) + agent.n_envs, log_interval=None)
        threads = arguments.threads or machine.torch_threads
        share = len(cfg.env.tasks) * GOALS * cfg.evaluation.horizon / _EVALUATE_EVERY
        play, play_other = _evaluation(ours, evaluated, share), _evaluation(other, stock_evaluated, share)
        sides = {
            "ours": _block(ours, callbacks, play, threads, arguments.steps),
            "bare": _block(ours, None, play, threads, arguments.steps),
            "sb3": _block(other, None, play_other, arguments.sb3_threads, arguments.steps),
        }
        rates = take_turns(sides, arguments.rounds)
    return {
        **{name: getattr(arguments, name) for name in ("overrides", "rounds", "steps", "sb3_threads")},
        "hardware": asdict(machine) | {"torch_threads": threads},
        **medians(rates),
        "train_over_sb3": ratio(rates, "ours", "sb3"),
        "lost": 1 - ratio(rates, "ours", "bare"),
        "rates": rates,
    }


def _stock_agent(cfg: Config, env: VecEnv, device: str) -> SAC:
    train_freq, gradient_steps = update_schedule(cfg.algo, env.num_envs)
    names = "learning_rate", "batch_size", "tau", "gamma", "n_steps"
    options = {name: getattr(cfg.algo, name) for name in names}
    options |= {name: int(getattr(cfg.algo, name)) for name in ("buffer_size", "learning_starts")}
    options |= {
        "train_freq": train_freq,
        "gradient_steps": gradient_steps,
        "seed": cfg.seed,
        "device": device,
    }
    layers = {"pi": list(cfg.variant.actor_layers), "qf": list(cfg.variant.critic_layers)}
    agent = SAC("MlpPolicy", env, policy_kwargs={"net_arch": layers}, **options)
    agent.set_logger(Logger(folder=None, output_formats=[]))
    return agent


def _evaluation(agent: OffPolicyAlgorithm, env: VecEnv, share: float) -> Callable[[int], None]:
    """Return what plays ``share`` steps of the deterministic policy for each step learned, from where it stopped."""
    obs = env.reset()

    def play(learned: int) -> None:
        nonlocal obs
        for _ in range(max(1, round(learned * share / env.num_envs))):
            actions, _ = agent.predict(obs, deterministic=True)
            obs, _, _, _ = env.step(actions)

    return play


def _block(
    agent: OffPolicyAlgorithm, callback: Any, play: Callable[[int], None], threads: int, steps: int
) -> Block:
    def learn_and_evaluate() -> float:
        torch.set_num_threads(threads)
        first, started = agent.num_timesteps, time.perf_counter()
        agent.learn(steps, callback=callback, log_interval=None, reset_num_timesteps=False)
        done = agent.num_timesteps - first
        play(done)
        return done / (time.perf_counter() - started)

    return learn_and_evaluate
