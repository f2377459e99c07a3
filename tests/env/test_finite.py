"""A NaN or an infinity that an environment returns is refused before anything takes it in."""

import gymnasium
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from mtrl.env.finite import RefuseNonFinite
from mtrl.env.normalize import TaskNormalize
from mtrl.errors import TrainingNotFiniteError


class Faulty(gymnasium.Env):
    """Returns one bad number, at its second step, which may end the episode, or at its second reset."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (40,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)

    def __init__(self, task, where=None, value=np.nan):
        self.task, self.where, self.value, self.steps, self.resets = task, where, value, 0, 0

    def _observation(self, bad):
        return np.append(np.zeros(39), self.value if bad else 1).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        self.resets += 1
        return self._observation(self.where == "reset" and self.resets == 2), {}

    def step(self, action):
        self.steps += 1
        bad, end = self.steps == 2, self.where in ("reset", "last observation") and self.steps == 2
        obs = self._observation(bad and self.where in ("observation", "last observation"))
        return obs, self.value if bad and self.where == "reward" else 0.0, False, end, {"task_id": self.task}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["reward", "observation", "last observation", "reset"])
@pytest.mark.parametrize("halves", [False, True], ids=["step", "two halves"])
def test_a_bad_number_is_named_and_changes_no_statistics(where, value, halves):
    env = RefuseNonFinite(DummyVecEnv([lambda: Faulty(7), lambda: Faulty(4, where, value)]), steps_before=10)
    outer = TaskNormalize(env, observations=True, reward=True, gamma=0.9) if halves else env
    outer.reset()
    outer.step(np.zeros((2, 4), np.float32))
    before = outer.statistics() if halves else {}
    tensor = "reward" if where == "reward" else "observation"
    with pytest.raises(
        TrainingNotFiniteError, match=f"^{tensor} of copy 1 of task 4 is NaN or infinite at step 14"
    ) as caught:
        outer.step(np.ones((2, 4), np.float32))
    transition = caught.value.transition
    assert not np.isfinite(transition[tensor]).all()
    np.testing.assert_array_equal(transition["action_before"], np.ones(4))
    assert transition["observation_before"].shape == (40,)
    for name, value_before in before.items():
        np.testing.assert_array_equal(outer.statistics()[name], value_before, err_msg=name)


def test_the_observations_of_a_reset_are_looked_at_too():
    env = RefuseNonFinite(DummyVecEnv([lambda: Faulty(4, "reset")]))
    env.reset()
    with pytest.raises(TrainingNotFiniteError, match=r"^observation of copy 0 is NaN or infinite"):
        env.reset()
