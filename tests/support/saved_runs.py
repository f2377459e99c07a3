"""Run directories with an untrained agent's weights, for the tests of what reads them: a second instead of many."""

import json
import shutil
from contextlib import closing

import numpy as np
import torch
from tiny_runs import TINY

from mtrl import hardware
from mtrl.algo.make import make_agent
from mtrl.checkpoint.model import save_model
from mtrl.env.make import make_training_env
from mtrl.experiment import compose_run, run_directory
from mtrl.rundir.environment import environment
from mtrl.rundir.write import write_json, write_yaml

TASKS = ("reach-v3", "door-open-v3")


def save_run(root, *overrides, steps=60):
    """Return the directory of a run of ``overrides`` whose agent has seen ``steps`` random steps."""
    torch.set_num_threads(1)
    composition = compose_run([*TINY, "hardware.backend=native", f"output={root}", *overrides])
    cfg, path = composition.config, run_directory(composition)
    env = make_training_env(cfg, hardware.choose(cfg, cfg.hardware))
    env.reset()
    for _ in range(steps):
        env.step(np.array([env.action_space.sample() for _ in range(env.num_envs)]))
    with closing(env):
        agent = make_agent(cfg, env, hardware.choose(cfg, cfg.hardware))
        save_model(path / "checkpoints" / "best", agent, step=steps, score=(0.5, 10.0))
    write_yaml(path / "config.yaml", {**composition.values, "choices": composition.choices})
    write_json(path / "environment.json", environment())
    write_json(path / "status.json", {"state": "finished", "step": steps, "total_steps": steps})
    return path


def of_version(run, version):
    """Return ``run``, which now says that another version of mtrl trained it."""
    facts = json.loads((run / "environment.json").read_text())
    facts["versions"]["mtrl-metaworld"] = version
    (run / "environment.json").write_text(json.dumps(facts))
    return run


def with_last(run, step):
    """Return ``run`` with a checkpoint of a later step beside its best one."""
    last = run / "checkpoints" / f"step_{step}"
    shutil.copytree(run / "checkpoints" / "best", last)
    score = json.loads((last / "score.json").read_text())
    (last / "score.json").write_text(json.dumps(score | {"step": step}))
    return run
