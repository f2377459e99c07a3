"""Steps of vector environments, played and compared."""

import numpy as np
import pytest


def random_actions(steps, n_envs, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, n_envs, 4)).astype(np.float32)


def play(env, actions):
    return [env.step(action) for action in actions]


def assert_same_steps(one, other, rel=0.0):
    """Everything that steps return is the same but the seconds; the returns of episodes within ``rel``."""
    for (*arrays, infos), (*arrays2, infos2) in zip(one, other, strict=True):
        for array, array2 in zip(arrays, arrays2, strict=True):
            np.testing.assert_array_equal(array, array2)
            assert array.dtype == array2.dtype
        for info, info2 in zip(infos, infos2, strict=True):
            assert info.keys() == info2.keys()
            for key, value in info.items():
                if key == "episode":
                    assert value.keys() == info2[key].keys() == {"r", "l", "t"}
                    assert value["l"] == info2[key]["l"]
                    assert value["r"] == pytest.approx(info2[key]["r"], rel=rel, abs=0)
                else:
                    np.testing.assert_array_equal(value, info2[key], err_msg=key)
