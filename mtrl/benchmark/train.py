"""Environment steps per second of a whole run with its evaluations, against stable-baselines3's SAC.

Both learn with the same hyperparameters as far as stable-baselines3 has them, in blocks and in turns. To every
block belongs its share of the official evaluation (50 episodes a task every 100,000 steps): so many steps of the
deterministic policy on evaluation environments. Ours runs as ``python -m mtrl`` would: its environments, logs and
metrics. The other runs on Meta-World's own classes in a DummyVecEnv.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtrl.benchmark.pairing import ratio, take_turns, typical
from mtrl.tasks import GOALS

if TYPE_CHECKING:
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

    from mtrl.config.compose import Composition
    from mtrl.config.types import Config

_EVALUATE_EVERY = 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this subcommand."""
    parser.add_argument(
        "overrides",
        nargs="*",
        default=["experiment=mt10"],
        help="configuration, as for python -m mtrl (mt10)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds (5)")
    parser.add_argument("--steps", type=int, default=500, help="environment steps of a block (500)")
    parser.add_argument("--threads", type=int, help="threads of torch for ours (what hardware=auto chooses)")
    parser.add_argument(
        "--sb3-threads", type=int, default=os.cpu_count(), help="threads of torch for the other (all cores)"
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and return environment steps per second; ``train_over_sb3`` is their ratio."""
    import torch

    from mtrl.config.compose import compose_run

    never = ["evaluation.every=1e12", "checkpoint.every=1e12", "checkpoint.minutes=1e9", "total_steps=1e12"]
    threads, before = torch.get_num_threads(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        composition = compose_run([*never, f"output={folder}", *arguments.overrides])
        try:
            rates, chosen = _measure(composition, Path(folder) / "run", arguments)
        finally:
            torch.set_num_threads(threads)
    return {
        "overrides": arguments.overrides,
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "hardware": chosen,
        "sb3_threads": arguments.sb3_threads,
        "ours": typical(rates, "ours"),
        "sb3": typical(rates, "sb3"),
        "train_over_sb3": ratio(rates, "ours", "sb3"),
        "rates": rates,
        "cores": os.cpu_count(),
        "load_average": [before, os.getloadavg()[0]],
    }


def show(result: dict[str, Any]) -> None:
    """Print the result in three lines."""
    print(
        f"{' '.join(result['overrides'])}: environment steps per second with their share of the evaluations"
    )
    print(
        f"{result['hardware']['device']}: {result['ours']:,.1f} ours on "
        f"{result['hardware']['torch_threads']} threads, {result['sb3']:,.1f} "
        f"stable-baselines3's SAC on {result['sb3_threads']}: {result['train_over_sb3']:.2f} times "
        f"(median of {result['rounds']} paired rounds of {result['steps']:,} steps)"
    )
    before, after = result["load_average"]
    print(f"{result['cores']} cores; load average {before:.1f} before and {after:.1f} after")


def _measure(
    composition: "Composition", path: Path, arguments: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    from stable_baselines3.common.logger import Logger

    from mtrl import hardware
    from mtrl.algo.make import make_agent
    from mtrl.checkpoint.store import Store
    from mtrl.env.make import choose_backend, make_evaluation_env, make_training_env, make_vec_env
    from mtrl.signals import Signals
    from mtrl.training.callbacks import RunCallbacks
    from mtrl.training.record import RunRecord

    cfg = composition.config
    chosen = hardware.choose(
        cfg.hardware,
        choose_backend(cfg.hardware.backend, cfg.env.tasks, cfg.env.reward),
        hardware.update_work(cfg),
    )
    own_threads = arguments.threads or chosen.torch_threads
    directory = RunRecord(path, composition)
    directory.start(chosen)
    stock = {"task_id": cfg.variant.task_id, "horizon": cfg.env.horizon, "reward": cfg.env.reward}
    stock |= {"seed": cfg.seed, "backend": "stock", "workers": 1}
    envs = {
        "ours": make_training_env(cfg, chosen),
        "sb3": make_vec_env(cfg.env.tasks, cfg.env.copies_per_task, **stock),
        "ours evaluated": make_evaluation_env(cfg, chosen),
        "sb3 evaluated": make_vec_env(cfg.env.tasks, cfg.env.copies_per_task, **stock),
    }
    with Signals() as signals:
        agents = {
            "ours": make_agent(cfg, envs["ours"], chosen),
            "sb3": _stock_agent(cfg, envs["sb3"], chosen.device),
        }
        for agent in agents.values():
            agent.set_logger(Logger(folder=None, output_formats=[]))
        session = RunCallbacks(cfg, chosen, directory, Store(path), signals)
        threads = {"ours": own_threads, "sb3": arguments.sb3_threads}
        callbacks = {"ours": session, "sb3": None}
        try:
            for agent in agents.values():
                # Past the random actions, so that every block has its updates.
                agent.learn(int(cfg.algo.learning_starts) + agent.n_envs, log_interval=None)
            evaluation_steps = len(cfg.env.tasks) * GOALS * cfg.env.horizon
            blocks = {}
            for name, agent in agents.items():
                play = _player(agent, envs[f"{name} evaluated"])
                blocks[name] = _block(
                    agent, callbacks[name], play, evaluation_steps, arguments.steps, threads[name]
                )
            return take_turns(blocks, arguments.rounds), chosen.as_dict() | {"torch_threads": own_threads}
        finally:
            session.close()
            for env in envs.values():
                env.close()


def _stock_agent(cfg: "Config", env: "VecEnv", device: str) -> "OffPolicyAlgorithm":
    from stable_baselines3 import SAC

    from mtrl.algo.make import update_schedule

    train_freq, gradient_steps = update_schedule(cfg.algo, env.num_envs)
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
        policy_kwargs={
            "net_arch": {"pi": list(cfg.variant.actor_layers), "qf": list(cfg.variant.critic_layers)}
        },
        seed=cfg.seed,
        device=device,
    )


def _player(agent: "OffPolicyAlgorithm", env: "VecEnv") -> Callable[[int], None]:
    """Return what plays so many environment steps of the deterministic policy, going on where it stopped."""
    obs = env.reset()

    def play(steps: int) -> None:
        nonlocal obs
        for _ in range(max(1, round(steps / env.num_envs))):
            actions, _ = agent.predict(obs, deterministic=True)
            obs, _, _, _ = env.step(actions)

    return play


def _block(
    agent: "OffPolicyAlgorithm",
    callback: Any,
    play: Callable[[int], None],
    evaluation_steps: int,
    steps: int,
    threads: int,
) -> Callable[[], float]:
    import torch

    def learn_and_evaluate() -> float:
        torch.set_num_threads(threads)
        first, started = agent.num_timesteps, time.perf_counter()
        agent.learn(steps, callback=callback, log_interval=None, reset_num_timesteps=False)
        done = agent.num_timesteps - first
        play(round(done * evaluation_steps / _EVALUATE_EVERY))
        return done / (time.perf_counter() - started)

    return learn_and_evaluate
