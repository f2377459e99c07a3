"""What callbacks, logs and progress cost: steps per second of stable-baselines3's own loop, with and without.

One agent on one set of environments learns in blocks, in turns with nothing around its loop and with everything
that a run has there: training metrics, CSV files, TensorBoard, progress, looking for signals. Evaluations and
checkpoints are work of their own and left out.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtrl.benchmark.pairing import ratio, take_turns, typical

if TYPE_CHECKING:
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

    from mtrl.config.compose import Composition


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this subcommand."""
    parser.add_argument("overrides", nargs="*", help="configuration of the run, as for python -m mtrl")
    parser.add_argument("--rounds", type=int, default=9, help="counted rounds (9)")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu counts only this process's time (wall)"
    )
    parser.add_argument("--steps", type=int, default=5_000, help="environment steps of a block (5000)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and return steps per second with and without; ``lost`` is the share of them that is lost."""
    from mtrl.config.compose import compose_run

    never = ["evaluation.every=1e12", "checkpoint.every=1e12", "checkpoint.minutes=1e9", "total_steps=1e12"]
    with tempfile.TemporaryDirectory() as folder:
        composition = compose_run([*never, f"output={folder}", *arguments.overrides])
        before = os.getloadavg()[0]
        clock = time.perf_counter if arguments.clock == "wall" else time.process_time
        rates = _measure(composition, Path(folder) / "run", arguments.rounds, arguments.steps, clock)
    return {
        "overrides": arguments.overrides,
        "clock": arguments.clock,
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "bare": typical(rates, "bare"),
        "whole": typical(rates, "whole"),
        "lost": 1 - ratio(rates, "whole", "bare"),
        "rates": rates,
        "cores": os.cpu_count(),
        "load_average": [before, os.getloadavg()[0]],
    }


def show(result: dict[str, Any]) -> None:
    """Print the result in two lines."""
    print(
        f"steps per second of {result['clock']} time: {result['bare']:,.0f} bare, "
        f"{result['whole']:,.0f} with everything around; "
        f"{result['lost']:.1%} lost (median of {result['rounds']} paired rounds of {result['steps']:,} steps)"
    )
    before, after = result["load_average"]
    print(f"{result['cores']} cores; load average {before:.1f} before and {after:.1f} after")


def _measure(
    composition: "Composition", path: Path, rounds: int, steps: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    from stable_baselines3.common.logger import Logger

    from mtrl import hardware
    from mtrl.algo.make import make_agent
    from mtrl.checkpoint.store import Store
    from mtrl.env.make import choose_backend, make_training_env
    from mtrl.signals import Signals
    from mtrl.training.callbacks import RunCallbacks
    from mtrl.training.record import RunRecord

    cfg = composition.config
    chosen = hardware.choose(
        cfg.hardware,
        choose_backend(cfg.hardware.backend, cfg.env.tasks, cfg.env.reward),
        hardware.update_work(cfg),
    )
    directory = RunRecord(path, composition)
    directory.start(chosen)
    env = make_training_env(cfg, chosen)
    with Signals() as signals:
        agent = make_agent(cfg, env, chosen)
        agent.set_logger(Logger(folder=None, output_formats=[]))
        session = RunCallbacks(cfg, chosen, directory, Store(path), signals)
        try:
            # Past the random actions, so that every block has its updates.
            agent.learn(cfg.algo.learning_starts + steps, log_interval=None)
            blocks = {
                "bare": _block(agent, steps, None, clock),
                "whole": _block(agent, steps, session, clock),
            }
            return take_turns(blocks, rounds)
        finally:
            session.close()
            env.close()


def _block(
    agent: "OffPolicyAlgorithm", steps: int, callback: "BaseCallback | None", clock: Callable[[], float]
) -> Callable[[], float]:
    def learn() -> float:
        first, started = agent.num_timesteps, clock()
        agent.learn(steps, callback=callback, log_interval=None, reset_num_timesteps=False)
        return (agent.num_timesteps - first) / (clock() - started)

    return learn
