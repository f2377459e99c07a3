"""What checkpoints cost: seconds to write one with new transitions, to restore a full buffer, and bytes on disk.

MT10 with ten copies and an agent of [400]x3; the buffer is filled with random transitions instead of played ones.
A plain write of as many bytes, forced to the disk as well, stands beside it: the disk's part. What that is of the
time of training, at the default frequency, is told by the speed of MT10's own recipe, measured in the same run.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

_BLOCK = 10_000
"""Transitions added to the buffer at a time."""
_LAYERS = "[400,400,400]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this subcommand."""
    parser.add_argument("--buffer", type=int, default=1_000_000, help="transitions in the buffer (1000000)")
    parser.add_argument("--new", type=int, default=100_000, help="new transitions of a checkpoint (100000)")
    parser.add_argument("--rounds", type=int, default=5, help="checkpoints that are timed (5)")
    parser.add_argument("--steps", type=int, default=400, help="steps of the recipe that are timed (400)")
    parser.add_argument("--folder", type=Path, help="where to write; the temporary directory by default")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and return seconds and bytes."""
    from mtrl.checkpoint.store import Store
    from mtrl.config.compose import compose_run

    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        overrides = [
            "experiment=mt10",
            f"algo.buffer_size={arguments.buffer}",
            f"variant.actor_layers={_LAYERS}",
            f"variant.critic_layers={_LAYERS}",
            "env.copies_per_task=1",
            f"output={folder}",
        ]
        composition = compose_run(overrides)
        path = Path(folder) / "run"
        path.mkdir()
        agent = _make_agent(composition.config)
        random = np.random.default_rng(0)
        store = Store(path, keep=composition.config.checkpoint.keep)
        _fill(agent, arguments.buffer, random)
        store.save(agent, {})
        writing, disk = [], []
        for _ in range(arguments.rounds):
            _fill(agent, arguments.new, random)
            started = time.perf_counter()
            target = store.save(agent, {})
            writing.append(time.perf_counter() - started)
            disk.append(_plain_write(path / "plain", target, store))
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        agent.env.close()
        restored = _make_agent(composition.config)
        started = time.perf_counter()
        again = Store(path)
        checkpoint = again.newest()
        assert checkpoint is not None
        again.restore(checkpoint, restored, {})
        restoring = time.perf_counter() - started
        restored.env.close()
        rate = _training_rate(arguments.steps)
    # Whatever comes first: so many steps, or so many minutes.
    often = composition.config.checkpoint
    interval = min(often.every / rate, 60 * often.minutes)
    return {
        "buffer": arguments.buffer,
        "new": arguments.new,
        "seconds": float(np.median(writing)),
        "seconds_of_each": writing,
        "plain_write": float(np.median(disk)),
        "steps_per_second": rate,
        "interval": interval,
        "share": float(np.median(writing)) / interval,
        "restore": restoring,
        "bytes": size,
        "load_average": os.getloadavg()[0],
    }


def show(result: dict[str, Any]) -> None:
    """Print the result in four lines."""
    print(
        f"a checkpoint with {result['new']:,} new transitions: {result['seconds']:.2f} s "
        f"(a plain write of as many bytes: {result['plain_write']:.2f} s)"
    )
    print(
        f"{result['share']:.3%} of training time: one every {result['interval']:,.0f} s at the default frequency, "
        f"MT10's recipe making {result['steps_per_second']:,.0f} steps/s"
    )
    print(f"restoring {result['buffer']:,} transitions, verified: {result['restore']:.2f} s")
    print(f"on disk: {result['bytes'] / 2**20:,.0f} MiB; load average {result['load_average']:.1f}")


def _training_rate(steps: int) -> float:
    """Return the environment steps per second of MT10's recipe, updates included."""
    from mtrl.config.compose import compose_run

    # The first batch, not all the random steps that the recipe begins with.
    starts = compose_run(["experiment=mt10"]).config.algo.batch_size
    agent = _make_agent(compose_run(["experiment=mt10", f"algo.learning_starts={starts}"]).config)
    try:
        # Its first updates warm it up.
        agent.learn(starts + steps // 4, log_interval=None, reset_num_timesteps=False)
        before, started = agent.num_timesteps, time.perf_counter()
        agent.learn(steps, log_interval=None, reset_num_timesteps=False)
        return (agent.num_timesteps - before) / (time.perf_counter() - started)
    finally:
        agent.env.close()


def _make_agent(cfg: Any) -> "OffPolicyAlgorithm":  # (a Config, which is imported with torch only)
    from stable_baselines3.common.logger import Logger

    from mtrl import hardware
    from mtrl.algo.make import make_agent
    from mtrl.env.make import choose_backend, make_training_env

    backend = choose_backend(cfg.hardware.backend, cfg.env.tasks, cfg.env.reward)
    chosen = hardware.choose(cfg.hardware, backend, hardware.update_work(cfg))
    env = make_training_env(cfg, chosen)
    agent = make_agent(cfg, env, chosen)
    agent.set_logger(Logger(folder=None, output_formats=[]))
    # Two vector steps, so that there are observations and environments in mid-episode.
    agent.learn(2 * env.num_envs, log_interval=None)
    return agent


def _fill(agent: "OffPolicyAlgorithm", count: int, random: np.random.Generator) -> None:
    """Add random transitions and count them as steps."""
    replay, tasks = agent.replay_buffer, agent.replay_buffer.n_tasks
    for start in range(0, count, _BLOCK):
        n = min(_BLOCK, count - start)
        obs = random.standard_normal((n, *replay.obs_shape), dtype=np.float32)
        actions = random.uniform(-1, 1, (n, replay.action_dim)).astype(np.float32)
        infos = [{"task_id": i % tasks} for i in range(n)]
        replay.add(obs, obs, actions, np.zeros(n, np.float32), np.zeros(n, bool), infos)
    agent.num_timesteps += count


def _plain_write(path: Path, checkpoint: Path, store: Any) -> float:
    """Return the seconds that writing as many bytes as the newest checkpoint did takes."""
    newest = max(store.buffer.glob("seg_*.npz"), key=lambda file: int(file.stem.split("_")[2]))
    size = newest.stat().st_size + sum(file.stat().st_size for file in checkpoint.iterdir())
    content = os.urandom(size)
    started = time.perf_counter()
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    seconds = time.perf_counter() - started
    path.unlink()
    return seconds
