"""NaN and infinity from the environments are refused, before anything else sees them."""

import numpy as np
import pytest

from mtrl.env.finite import RefuseNonFinite
from mtrl.env.make import make_vec_env
from mtrl.errors import NonFinite

ACTION = np.zeros((2, 4), np.float32)


@pytest.fixture
def env():
    made = RefuseNonFinite(
        make_vec_env(["reach-v3", "push-v3"], 1, horizon=5, backend="native"), steps_before=100
    )
    made.reset()
    yield made
    made.close()


@pytest.mark.parametrize("name", ["observation", "reward", "terminal_observation"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_first_wrong_number_is_named_with_its_copy_task_and_step(env, monkeypatch, name, value):
    for _ in range(4):
        env.step(ACTION)
    obs, rewards, dones, infos = (np.copy(part) for part in env.venv.step(ACTION))
    assert dones.all()
    wrong = {
        "observation": obs[1],
        "reward": rewards[1:],
        "terminal_observation": infos[1]["terminal_observation"],
    }
    wrong[name][-1] = value
    monkeypatch.setattr(env.venv, "step", lambda actions: (obs, rewards, dones, infos.tolist()))
    with pytest.raises(NonFinite) as caught:
        env.step(ACTION)
    assert (caught.value.tasks, caught.value.step) == ([1], 110)
    assert str(caught.value).startswith(
        f"{name.removeprefix('terminal_')} of copy 1 of task 1 is NaN or infinite"
    )
    assert np.array_equal(caught.value.transition["action_before"], ACTION[1])


def test_the_first_observations_are_looked_at_too(env, monkeypatch):
    obs = env.venv.reset()
    obs[0, 3] = np.inf
    monkeypatch.setattr(env.venv, "reset", lambda: obs)
    with pytest.raises(NonFinite, match=r"^observation of copy 0"):
        env.reset()
