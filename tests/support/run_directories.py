"""Write run directories as a training run would, without one: for the tests of what reads them."""

import json
import os
import socket
from pathlib import Path

import numpy as np
import yaml

MT3 = ("reach-v3", "push-v3", "pick-place-v3")


def write_run(
    root: Path,
    name: str = "plain-00000000",
    seed: int = 1,
    *,
    tasks: tuple[str, ...] = MT3,
    total_steps: int = 200_000,
    step: int | None = None,
    every: int = 10_000,
    episodes: int = 10,
    skill: float = 0.8,
    state: str = "finished",
    goals: tuple[str, ...] = ("train",),
    stages: int = 0,
    reward: str = "v2",
    horizon: int = 500,
    overrides: dict | None = None,
    environment: dict | None = None,
    host: str | None = None,
    pid: int | None = None,
) -> Path:
    """Write one run whose success on task k rises towards ``skill`` and return its directory."""
    random = np.random.default_rng([seed, sum(map(ord, name))])
    path = root / name / f"seed={seed}"
    path.mkdir(parents=True)
    config = {
        "seed": seed,
        "experiment": "mt3",
        "total_steps": total_steps,
        "env": {"tasks": list(tasks), "reward": reward, "horizon": horizon, "copies_per_task": 1},
        "algo": {"name": "sac", "gamma": 0.99, "learning_rate": 3e-4},
        "variant": {"name": "shared", "critic_width": 400},
        "curriculum": {"name": "progressive" if stages else "none"},
        "evaluation": {"every": every, "episodes": episodes},
        "hardware": {"device": "cpu"},
        "choices": {"experiment": "mt3", "hardware": "auto" if seed % 2 else "cpu"},
    }
    for key, value in (overrides or {}).items():
        *groups, last = key.split(".")
        at = config
        for group in groups:
            at = at.setdefault(group, {})
        at[last] = value
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    done = total_steps if step is None else step
    start = {"host": host or socket.gethostname(), "pid": pid or os.getpid(), "step": 0}
    start["time"] = "2025-01-01T00:00:00"
    status = {"state": state, "step": done, "total_steps": total_steps, "starts": [start], "result": None}
    (path / "status.json").write_text(json.dumps(status))
    facts = environment or {
        "versions": {"mtrl-metaworld": "0.1.0", "torch": "2.13.0", "mujoco": "3.3.0"},
        "git": {"commit": "0" * 40, "dirty": False},
        "cpu": "a processor",
        "command": "python -m mtrl",
        "time": f"2025-01-01T00:00:{seed:02d}",
    }
    (path / "environment.json").write_text(json.dumps(facts))

    def write(name, header, lines):
        (path / name).write_text("\n".join([header, *lines]) + "\n")

    def success(task, progress, skill):
        """Return the success probability of a task at a progress of 0 to 1: later tasks are learned later."""
        later = task / max(len(tasks) - 1, 1)
        chance = (skill + 0.15 * (1 - 2 * later)) / (1 + np.exp(-(progress - 0.12 - 0.5 * later) * 18))
        return np.clip(chance, 0, 1)

    steps, n, rates = np.arange(every, done + 1, every), len(tasks), {}
    for kind in goals:
        for k, task in enumerate(tasks):
            chance = success(k, steps / max(done, 1), skill - 0.1 * (kind == "heldout"))
            chance = np.clip(chance + random.normal(0, 0.04), 0, 1)
            rates[kind, task] = random.binomial(episodes, chance) / episodes
    lines = [
        f"{step},{task},{kind},{episodes},{rate[i]:.6g},{rate[i] * 4000 + 100:.6g},{horizon}"
        for i, step in enumerate(steps)
        for (kind, task), rate in rates.items()
    ]
    write("evaluation.csv", "step,task,goals,episodes,success_rate,mean_return,mean_length", lines)

    logged = np.arange(5_000, done + 1, 5_000)
    names = ["step", "updates", "episodes", "success_rate"]
    names += [f"{what}/{task}" for what in ("success_rate", "return", "episode_length") for task in tasks]
    names += ["loss/actor", "loss/critic", *(f"temperature/{task}" for task in tasks)]
    names += ["q_value", "learning_rate", "stage"]
    table, progress = np.zeros((len(logged), len(names))), logged / max(done, 1)
    table[:, 0], table[:, 1], table[:, 2] = logged, logged // 10, logged // 500
    for k in range(n):
        chance = success(k, progress, skill)
        table[:, 4 + k] = np.clip(chance + random.normal(0, 0.05, len(logged)), 0, 1)
        table[:, 4 + n + k] = 4000 * chance
        table[:, 4 + 2 * n + k] = 500
    table[:, 3] = table[:, 4 : 4 + n].mean(axis=1)
    table[:, 4 + 3 * n : -1] = random.normal(size=(len(logged), len(names) - 5 - 3 * n)).round(4)
    table[:, -1] = np.minimum((progress * stages).astype(int), stages - 1) if stages else -1
    rows = [[str(int(row[0])), *(f"{value:.6g}" for value in row[1:])] for row in table]
    for row in rows[:1]:
        # A loss that is not known yet.
        row[4 + 3 * n] = ""
    write("metrics.csv", ",".join(names), [",".join(cells) for cells in rows])

    measured = 400 * (1 + random.normal(0, 0.05, len(steps)))
    rows = zip(steps, np.cumsum(every / measured), measured, strict=True)
    lines = [f"{step},{seconds:.3f},{at:.2f},0.3,0.6,0.05" for step, seconds, at in rows]
    write("timing.csv", "step,seconds,steps_per_second,environment,learning,evaluation", lines)
    return path
