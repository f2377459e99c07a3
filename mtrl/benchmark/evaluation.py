"""How long an official evaluation takes: wall-clock seconds, by the protocol, of a policy that nobody has trained.

What a policy has learned changes nothing of it: every episode lasts for the full horizon.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

from mtrl.tasks import GOALS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this subcommand."""
    parser.add_argument(
        "overrides", nargs="*", help="configuration of the run, as for python -m mtrl (experiment=mt10)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="evaluations (3)")
    parser.add_argument(
        "--episodes", type=int, default=GOALS, help=f"of each task ({GOALS}, the official one)"
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and return the wall-clock seconds of each evaluation, and their median."""
    import numpy as np
    import torch

    from mtrl.config.compose import compose_run
    from mtrl.evaluation.__main__ import play
    from mtrl.hardware import available_cores

    overrides = arguments.overrides or ["experiment=mt10"]
    policy = _untrained(compose_run([*overrides, "algo.buffer_size=10_000"]).config)
    # As the command has it, whose time this is.
    torch.set_num_threads(max(1, available_cores() // 2))
    before = os.getloadavg()[0]
    seconds = []
    for _ in range(arguments.rounds):
        started = time.perf_counter()
        evaluation = play(policy, arguments.episodes)
        seconds.append(time.perf_counter() - started)
    return {
        "overrides": overrides,
        "tasks": len(policy.tasks),
        "episodes": [result.episodes for result in evaluation.results],
        "mean_length": [result.mean_length for result in evaluation.results],
        "seconds": float(np.median(seconds)),
        "rounds": seconds,
        "cores": os.cpu_count(),
        "load_average": [before, os.getloadavg()[0]],
    }


def show(result: dict[str, Any]) -> None:
    """Print the result in two lines."""
    steps = sum(n * length for n, length in zip(result["episodes"], result["mean_length"], strict=True))
    print(
        f"{sum(result['episodes'])} episodes of {result['tasks']} tasks, {steps:,.0f} steps: "
        f"{result['seconds']:.1f} s (median of {len(result['rounds'])})"
    )
    before, after = result["load_average"]
    print(f"{result['cores']} cores; load average {before:.1f} before and {after:.1f} after")


def _untrained(cfg: Any) -> Any:
    from contextlib import closing

    from mtrl import hardware
    from mtrl.algo.make import make_agent
    from mtrl.env.make import choose_backend, make_training_env
    from mtrl.evaluation.policy import Policy, Setting

    backend = choose_backend(cfg.hardware.backend, cfg.env.tasks, cfg.env.reward)
    chosen = hardware.choose(cfg.hardware, backend, hardware.update_work(cfg))
    with closing(make_training_env(cfg, chosen)) as env:
        network = make_agent(cfg, env, chosen).policy.to("cpu")
    network.set_training_mode(False)
    setting = Setting(tuple(cfg.env.tasks), cfg.seed, cfg.env.horizon, cfg.env.reward, cfg.evaluation.goals)
    return Policy(network, setting, Path("untrained"))
