"""What ``mtrl.make_vec_env`` is given: refused in one sentence before anything is made, or simulated, or taken."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from tiny_runs import python

import mtrl
from mtrl import hardware
from mtrl.env import make as factory
from mtrl.errors import ActionNotFiniteError, ConfigurationError
from mtrl.experiment import compose_run
from mtrl.tasks import HELD_OUT_SEED

TASKS = ["reach-v3", "push-v3"]


@pytest.fixture(scope="module", params=["native", "stock", "workers"])
def env(request, make_for_module):
    made = make_for_module(request.param, TASKS, 1, seed=3)
    made.reset()
    return made


def physics(env):
    return [state["physics"] for state in env.env_method("get_state")]


@pytest.mark.parametrize("shape", [(3, 4), (1, 4), (2, 3), (4,), (2, 4, 1)])
def test_actions_of_another_shape_reach_no_copy(env, shape):
    before = physics(env)
    with pytest.raises(
        ValueError, match=r"actions of shape .* do not fit 2 copies: give \(2, 4\)"
    ) as refusal:
        env.step(np.zeros(shape, np.float32))
    assert str(shape) in str(refusal.value)
    np.testing.assert_array_equal(physics(env), before)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_no_number_stops_the_copies_before_it_too(env, bad):
    before = physics(env)
    actions = np.ones((2, 4), np.float32)
    actions[1, 3] = bad
    with pytest.raises(
        ActionNotFiniteError, match=r"of copy 1 \(push-v3\) is not finite: check the policy's weights"
    ):
        env.step(actions)
    np.testing.assert_array_equal(physics(env), before)
    env.step(np.zeros((2, 4), np.float32))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0.7, 3), "task=0.7 must be a whole number"),
        ((0, 3.6), "goal=3.6 must be a whole number"),
        (("push-v3",), "task='push-v3' must be a whole number"),
        ((True,), "task=True must be a whole number"),
        ((2,), "task 2 is not in the set of 2 tasks"),
        ((-1,), "task -1 is not in the set"),
        ((0, 50), "goal 50 does not exist: a task has goals 0 to 49"),
        ((0, -1), "goal -1 does not exist"),
    ],
)
def test_a_task_or_goal_that_is_none_is_refused_and_the_environment_goes_on(env, arguments, sentence):
    with pytest.raises(ValueError, match=sentence) as refusal:
        env.env_method("set_task", *arguments)
    assert "\n" not in str(refusal.value)
    env.env_method("set_task", np.int64(1), np.int32(7), indices=[0])
    env.reset()
    assert env.reset_infos[0] == {"task_id": 1, "goal": 7}
    env.env_method("set_task", 0, indices=[0])
    env.reset()


DRAW_LATER = """
import mtrl
from mtrl.errors import NoGraphicsError
env = mtrl.make_vec_env(["reach-v3"], backend="stock", workers=1, render_mode="rgb_array")
env.reset()
try:
    env.render()
except NoGraphicsError as error:
    print(error)
"""


def test_graphics_that_are_not_here_stop_only_what_draws(tmp_path):
    done = python("-c", DRAW_LATER, cwd=tmp_path, MUJOCO_GL="banana")
    assert done.stderr == ""
    assert done.stdout.startswith("MUJOCO_GL=banana cannot draw here: unset it")


NO_EPISODE, UNDER_WAY = (
    "there is no episode yet: call reset first",
    "a step is under way: call step_wait before",
)
NO_STEP, CLOSED = "no step is under way: call step_async first", "the environments are closed: make new ones"


@pytest.mark.parametrize("backend", ["native", "stock", "workers"])
def test_a_call_out_of_order_is_refused_alike_on_every_backend_and_changes_nothing(make, backend):
    env, actions = make(backend, TASKS, horizon=5), np.zeros((2, 4), np.float32)

    def refused(sentence, *calls):
        for call, *arguments in calls:
            with pytest.raises(RuntimeError, match=sentence):
                getattr(env, call)(*arguments)

    refused(
        NO_EPISODE, ("step", actions), ("step_async", actions), ("step_wait",), ("env_method", "get_state")
    )
    expected = env.reset()
    states = env.env_method("get_state")
    refused(NO_STEP, ("step_wait",))
    env.step_async(actions)
    refused(UNDER_WAY, ("step", actions), ("step_async", actions), ("env_method", "get_state"))
    # What is asked meanwhile is no answer to the step.
    env.env_method("set_task", 1, 7, indices=[0])
    assert env.get_attr("horizon") == [5, 5]
    assert env.step_wait()[0].shape == (2, 41)
    env.step_async(actions)
    env.reset()
    assert env.reset_infos[0] == {"task_id": 1, "goal": 7}
    other = make(backend, TASKS, horizon=5)
    other.env_method("set_state", states[0], indices=[0])
    assert other.env_method("get_state", indices=[0])[0]["goal"] == states[0]["goal"]
    with pytest.raises(RuntimeError, match=NO_EPISODE):
        other.step(actions)
    other.env_method("set_state", states[1], indices=[1])
    np.testing.assert_allclose(other.step(actions)[0][:, 36:], expected[:, 36:])
    env.close()
    env.close()
    refused(CLOSED, ("reset",), ("step", actions), ("step_async", actions), ("step_wait",))
    refused(CLOSED, ("env_method", "get_state"), ("env_method", "set_task", 0))


def test_what_a_copy_lacks_is_said_alike_and_the_environment_goes_on(env):
    sentence = "^an environment has no attribute or method 'fly': its methods are set_task, get_state"
    for ask in (env.env_method, env.get_attr):
        with pytest.raises(AttributeError, match=sentence):
            ask("fly")
    assert not env.has_attr("fly")
    assert env.has_attr("horizon")
    assert env.has_attr("render")
    with pytest.raises(TypeError):
        env.env_method("set_task")
    for indices in (2, [0, -3]):
        with pytest.raises(IndexError, match="name a copy that does not exist: there are 2"):
            env.env_method("set_task", 0, indices=indices)
    with pytest.raises(ValueError, match="render_mode"):
        env.env_method("render")
    assert env.env_is_wrapped(gymnasium.Wrapper) == [False, False]
    assert env.metadata == {"render_modes": ["rgb_array"], "render_fps": 80}
    env.reset()


def test_a_single_stock_environment_is_gymnasiums(make):
    env = make("stock", TASKS).envs[0]
    with warnings.catch_warnings():
        # Of bounds that are infinite, and of a specification that only gymnasium.make gives.
        warnings.simplefilter("ignore")
        check_env(env)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tasks": "reach-v3"}, r"must be a list of names: use \['reach-v3'\]"),
        ({"tasks": []}, "task set is empty"),
        ({"copies_per_task": 1.5}, "copies_per_task=1.5 must give each of 2 tasks a count"),
        ({"copies_per_task": "two"}, "copies_per_task=two must give each of 2 tasks a count"),
        ({"copies_per_task": [1, -1]}, "a count"),
        ({"copies_per_task": [1, 1, 1]}, "a count"),
        ({"seed": 1.5}, "seed=1.5 must be a whole number"),
        ({"seed": -1}, "seed=-1 must lie in 0"),
        ({"seed": HELD_OUT_SEED}, "held-out goals, which nothing may train on"),
        ({"backend": "fast"}, "must be one of auto, stock, native"),
        ({"goals": "all"}, "must be one of train, heldout"),
        ({"horizon": 10.5}, "horizon=10.5 must be a whole number"),
        ({"horizon": 501}, r"horizon=501 must lie in 1\.\.500"),
        ({"reward": "v3"}, "silently train on v1"),
        ({"workers": -1}, "workers=-1 must be at least 1"),
        ({"workers": 0, "backend": "stock"}, "workers=0 must be at least 1"),
        ({"threads": 0}, "threads=0 must be at least 1"),
        ({"threads": 1.0}, "threads=1.0 must be a whole number"),
        ({"render_mode": "human"}, "render_mode='human' must be one of None, rgb_array"),
        (
            {"backend": "native", "tasks": ["hammer-v3"], "reward": "v1"},
            "backend=native does not have the task hammer-v3 with reward=v1: use backend=auto",
        ),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence) as refusal:
        mtrl.make_vec_env(**{"tasks": TASKS} | options)
    assert "\n" not in str(refusal.value)
    assert "hardware." not in str(refusal.value), "people with a loop of their own have no configuration"


def test_whole_numbers_may_be_numpys(make):
    numbers = {"seed": np.uint8(3), "horizon": np.int32(7), "threads": np.int64(1)}
    env = make("native", np.array(["reach-v3"]).tolist(), np.int64(2), **numbers)
    other = make("native", ["reach-v3"], np.array([2]), seed=3, horizon=7)
    assert env.num_envs == other.num_envs == 2
    np.testing.assert_array_equal(env.reset(), other.reset())


def test_the_seed_of_the_held_out_goals_is_no_seed_of_a_run(tmp_path):
    with pytest.raises(ConfigurationError, match=r"seed=1000003 makes the held-out goals.*use another seed"):
        compose_run([f"seed={HELD_OUT_SEED}", f"output={tmp_path}"])
    compose_run([f"seed={HELD_OUT_SEED + 1}", f"output={tmp_path}"])


def test_no_more_cores_are_used_than_this_process_may(monkeypatch):
    """A cluster allows a job fewer than the machine has."""
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(factory, "WorkerVecEnv", lambda make_envs, workers, **_: workers)
    assert mtrl.make_vec_env(["reach-v3"], 9, backend="stock") == 3
    monkeypatch.setattr("mtrl.env.native.vec_env.NativeVecEnv", lambda *arguments, threads, **_: threads)
    assert mtrl.make_vec_env(["reach-v3"], backend="native") == 4
