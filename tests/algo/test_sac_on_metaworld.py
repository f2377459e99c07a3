"""Our SAC on Meta-World itself: what it learns depends neither on timing nor on who steps the environments."""

import numpy as np
import pytest
import torch

from mtrl.algo.sac import SAC
from mtrl.env.make import make_vec_env

TASKS = ["reach-v3", "push-v3"]


def learned(backend, **arguments):
    env = make_vec_env(TASKS, [2, 1], seed=1, backend=backend, horizon=30, **arguments)
    try:
        networks = {"actor_layers": [32], "critic_layers": [32], "critic_heads": True, "shared_layers": 0}
        options = {"n_tasks": 2, "balanced_batches": True, "temperature": "per_task", "overlap": True}
        options |= {"gradient_steps": 2, "learning_starts": 60, "batch_size": 32, "buffer_size": 1000}
        model = SAC("MlpPolicy", env, policy_kwargs=networks, seed=2, device="cpu", **options).learn(300)
        rows = model.replay_buffer.rows(0, 300)
        return rows, {name: value.clone() for name, value in model.policy.state_dict().items()}
    finally:
        env.close()


@pytest.mark.parametrize(
    ("backend", "one", "other"),
    [("native", {"threads": 1}, {"threads": 2}), ("stock", {"workers": 1}, {"workers": 2})],
)
def test_overlapped_run_does_not_depend_on_who_steps_the_environments(backend, one, other):
    (rows, weights), (other_rows, other_weights) = learned(backend, **one), learned(backend, **other)
    for name in rows:
        assert np.array_equal(rows[name], other_rows[name]), name
    assert sorted(np.unique(rows["tasks"], return_counts=True)[1].tolist()) == [100, 200]
    assert rows["truncated"].sum() == 3 * (100 // 30)
    assert rows["terminated"].sum() == 0
    for name in weights:
        assert torch.equal(weights[name], other_weights[name]), name
