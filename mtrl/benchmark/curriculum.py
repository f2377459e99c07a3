"""What a curriculum costs: steps per second of a run with stages against the same run without.

One agent on one set of environments learns in blocks, in turns without a curriculum and in one whose stages all play
every task alike, so that nothing differs but the curriculum's own work: handing out tasks at each episode, and a
transition in every block, far more often than a run has, with the model that it saves. The success that a stage with
a threshold is judged by is an evaluation: work of its own, and left out as in the run without.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from mtrl.benchmark.pairing import Rates, ratio, take_turns, typical

if TYPE_CHECKING:
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

    from mtrl.config.compose import Composition
    from mtrl.training.callbacks import RunCallbacks

CLOCKS = ("wall", "cpu")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this subcommand."""
    parser.add_argument("overrides", nargs="*", help="configuration of the run without its curriculum (mt3)")
    parser.add_argument("--rounds", type=int, default=9, help="counted rounds (9)")
    # An episode of each of mt3's six copies: every block hands out tasks as often, in two minutes in all.
    parser.add_argument("--steps", type=int, default=3_000, help="environment steps of a block (3000)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and return steps per second and their ratios, by wall clock and by the time of this process."""
    from mtrl.config.compose import compose_run

    never = ["evaluation.every=1e12", "checkpoint.every=1e12", "checkpoint.minutes=1e9", "total_steps=1e12"]
    # Two sessions cannot share a terminal's last line.
    never.append("logging.progress=off")
    overrides = arguments.overrides or ["experiment=mt3"]
    with tempfile.TemporaryDirectory() as folder:
        overrides = [*never, f"output={folder}", *overrides]
        plain = compose_run(overrides)
        # What warms up has transitions too, and the last stage has none.
        warming = plain.config.algo.learning_starts // arguments.steps + 2
        stage = f"[{','.join(plain.config.env.tasks)}]"
        stages = ",".join([stage] * (arguments.rounds + warming + 1))
        ends = ["curriculum.thresholds=[null]", f"curriculum.steps=[{arguments.steps}]"]
        staged = compose_run([*overrides, f"curriculum.stages=[{stages}]", *ends])
        before = os.getloadavg()[0]
        rates, transitions = _measure(plain, staged, Path(folder), arguments.rounds, arguments.steps)
    result: dict[str, Any] = {
        "overrides": arguments.overrides,
        "tasks": len(plain.config.env.tasks),
        "copies": plain.config.n_envs,
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "transitions": transitions,
        "cores": os.cpu_count(),
        "load_average": [before, os.getloadavg()[0]],
    }
    return result | {clock: _summary(rates[clock]) for clock in CLOCKS}


def _summary(rates: Rates) -> dict[str, Any]:
    pairs = sorted(one / other for one, other in zip(rates["staged"], rates["plain"], strict=True))
    middle = len(pairs) // 2
    return {
        "plain": typical(rates, "plain"),
        "staged": typical(rates, "staged"),
        "staged_over_plain": ratio(rates, "staged", "plain"),
        "quartiles": [median(pairs[: middle + 1]), median(pairs[len(pairs) - middle - 1 :])],
        "range": [pairs[0], pairs[-1]],
        "rates": rates,
    }


def show(result: dict[str, Any]) -> None:
    """Print a line for each clock, and what it was measured under."""
    for clock in CLOCKS:
        row = result[clock]
        print(
            f"{clock}: {row['plain']:,.0f} steps per second without stages, {row['staged']:,.0f} with; ratio "
            f"{row['staged_over_plain']:.3f} (quartiles {row['quartiles'][0]:.3f} to {row['quartiles'][1]:.3f}, "
            f"all {row['range'][0]:.3f} to {row['range'][1]:.3f})"
        )
    before, after = result["load_average"]
    print(
        f"{result['tasks']} tasks, {result['copies']} copies, {result['rounds']} paired rounds of "
        f"{result['steps']:,} steps, {result['transitions']} transitions; {result['cores']} cores; "
        f"load average {before:.1f} before and {after:.1f} after"
    )


def _measure(
    plain: "Composition", staged: "Composition", folder: Path, rounds: int, steps: int
) -> tuple[dict[str, Rates], int]:
    """Return the rates by clock and contender, and how many stages ended."""
    from stable_baselines3.common.logger import Logger

    from mtrl import hardware
    from mtrl.algo.make import make_agent
    from mtrl.checkpoint.store import Store
    from mtrl.curriculum.curriculum import begin_curriculum
    from mtrl.env.make import choose_backend, make_training_env
    from mtrl.signals import Signals
    from mtrl.training.callbacks import RunCallbacks
    from mtrl.training.record import RunRecord

    cfg = plain.config
    chosen = hardware.choose(
        cfg.hardware,
        choose_backend(cfg.hardware.backend, cfg.env.tasks, cfg.env.reward),
        hardware.update_work(cfg),
    )
    env = make_training_env(cfg, chosen)
    curriculum = begin_curriculum(staged.config, env)
    assert curriculum is not None
    sessions: dict[str, RunCallbacks] = {}
    with Signals() as signals:
        agent = make_agent(cfg, env, chosen)
        agent.set_logger(Logger(folder=None, output_formats=[]))
        try:
            for name, composition, stages in (("staged", staged, curriculum), ("plain", plain, None)):
                directory, path = RunRecord(folder / name, composition), folder / name
                directory.start(chosen)
                sessions[name] = RunCallbacks(
                    composition.config, chosen, directory, Store(path), signals, stages
                )
            # Past the random actions, so that every block has its updates.
            agent.learn(cfg.algo.learning_starts + steps, callback=sessions["staged"], log_interval=None)
            cpu: Rates = {name: [] for name in sessions}
            blocks = {name: _block(agent, steps, session, cpu[name]) for name, session in sessions.items()}
            wall = take_turns(blocks, rounds)
        finally:
            for session in sessions.values():
                session.close()
            env.close()
    return {"wall": wall, "cpu": {name: values[1:] for name, values in cpu.items()}}, len(curriculum.history)


def _block(
    agent: "OffPolicyAlgorithm", steps: int, session: "RunCallbacks", cpu: list[float]
) -> Callable[[], float]:
    """Return a block of learning, which returns its rate by the wall clock and adds that by CPU time to ``cpu``."""

    def learn() -> float:
        first, wall, own = agent.num_timesteps, time.perf_counter(), time.process_time()
        agent.learn(steps, callback=session, log_interval=None, reset_num_timesteps=False)
        done = agent.num_timesteps - first
        cpu.append(done / (time.process_time() - own))
        return done / (time.perf_counter() - wall)

    return learn
