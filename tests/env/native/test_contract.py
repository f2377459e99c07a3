"""The native environments keep the contract of ``mtrl.env``, exactly as the stock ones do."""

import json
import logging
import multiprocessing
import os
import subprocess
import sys
import threading

import metaworld_reference as reference
import numpy as np
import pytest
from tiny_runs import REPOSITORY

from mtrl.env import native
from mtrl.env.make import choose_backend, make_vec_env
from mtrl.errors import NotFiniteError
from mtrl.tasks import MT10

TASKS = ["reach-v3", "drawer-close-v3", "push-v3"]
ROOT = REPOSITORY
HALF = list(MT10[1::2])


def random_actions(steps, n_envs, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, n_envs, 4)).astype(np.float32)


def assert_same_info(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        if key == "episode":
            assert value.keys() == other[key].keys() == {"r", "l", "t"}
            assert value["l"] == other[key]["l"]
            # On some processors numpy's BLAS rounds the norms in Meta-World's rewards differently in the last digit.
            assert value["r"] == pytest.approx(other[key]["r"], rel=1e-12)
        else:
            np.testing.assert_array_equal(value, other[key], err_msg=key)


def assert_same_steps(one, other):
    for (obs, reward, done, infos), (obs2, reward2, done2, infos2) in zip(one, other, strict=True):
        np.testing.assert_array_equal(obs, obs2)
        np.testing.assert_array_equal(reward, reward2)
        np.testing.assert_array_equal(done, done2)
        assert (obs.dtype, reward.dtype, done.dtype) == (obs2.dtype, reward2.dtype, done2.dtype)
        for info, info2 in zip(infos, infos2, strict=True):
            assert_same_info(info, info2)


@pytest.mark.parametrize("terminate_on_success", [False, True])
@pytest.mark.parametrize("task_id", [False, True])
def test_everything_returned_is_what_stock_returns(task_id, terminate_on_success):
    options = {"horizon": 30, "seed": 5, "task_id": task_id, "terminate_on_success": terminate_on_success}
    native = make_vec_env(TASKS, [2, 1, 1], backend="native", threads=2, **options)
    stock = make_vec_env(TASKS, [2, 1, 1], backend="stock", workers=1, **options)
    assert native.observation_space == stock.observation_space
    assert native.action_space == stock.action_space
    np.testing.assert_array_equal(native.reset(), stock.reset())
    assert native.reset_infos == stock.reset_infos
    actions = random_actions(100, 4)
    # Reaching down and forward solves some of the episodes.
    actions[:, :, 1] = np.abs(actions[:, :, 1])
    results = [], []
    for step, action in enumerate(actions):
        if step == 40:
            for env in (native, stock):
                env.env_method("set_task", 2, 17, indices=[0])
        for env, steps in zip((native, stock), results, strict=True):
            steps.append(env.step(action))
        assert native.reset_infos == stock.reset_infos
    assert_same_steps(*results)
    ends = [info for _, _, _, infos in results[0] for info in infos if "episode" in info]
    assert len(ends) >= 12
    assert {info["task_id"] for info in ends} == {0, 1, 2}
    native.close()
    stock.close()


def test_seed_takes_effect_at_the_next_reset_as_in_stable_baselines3():
    native = make_vec_env(TASKS, 2, backend="native", seed=1)
    stock = make_vec_env(TASKS, 2, backend="stock", workers=1, seed=1)
    for env in (native, stock):
        env.seed(11)
    np.testing.assert_array_equal(native.reset(), stock.reset())
    first = [info["goal"] for info in native.reset_infos]
    np.testing.assert_array_equal(native.reset(), stock.reset())
    assert [info["goal"] for info in native.reset_infos] != first
    native.seed(11)
    native.reset()
    assert [info["goal"] for info in native.reset_infos] == first
    native.close()
    stock.close()


def test_set_task_waits_for_the_reset_of_that_copy():
    env = make_vec_env(TASKS, [2, 0, 0], backend="native", horizon=5)
    env.reset()
    env.env_method("set_task", 1, 4, indices=1)
    for step, action in enumerate(random_actions(5, 2)):
        obs, _, done, infos = env.step(action)
        assert [info["task_id"] for info in infos] == [0, 0]
        assert done.all() == (step == 4)
    np.testing.assert_array_equal(infos[1]["terminal_observation"][39:], [1, 0, 0])
    np.testing.assert_array_equal(obs[:, 39:], [[1, 0, 0], [0, 1, 0]])
    assert env.reset_infos[1] == {"task_id": 1, "goal": 4}
    with pytest.raises(ValueError, match="task 3 is not in the set"):
        env.env_method("set_task", 3)
    env.close()


def test_state_restores_in_mid_episode_and_continues_over_resets():
    env, other = (make_vec_env(HALF, 1, backend="native", horizon=40, seed=2) for _ in "ab")
    env.reset()
    actions = random_actions(120, len(HALF))
    for action in actions[:25]:
        env.step(action)
    states = env.env_method("get_state")
    expected = [env.step(action) for action in actions[25:]]
    other.reset()
    for action in actions[50:60]:
        other.step(action)
    for i, state in enumerate(states):
        # JSON has no arrays: they travel beside it.
        arrays = {key: value.copy() for key, value in state.items() if isinstance(value, np.ndarray)}
        plain = json.loads(json.dumps({key: value for key, value in state.items() if key not in arrays}))
        other.env_method("set_state", plain | arrays, indices=[i])
    assert_same_steps([other.step(action) for action in actions[25:]], expected)
    env.close()
    other.close()


def test_state_of_a_fresh_environment_can_be_set_without_a_reset():
    env = make_vec_env(TASKS, 1, backend="native", seed=2)
    env.reset()
    actions = random_actions(10, 3)
    env.step(actions[0])
    fresh = make_vec_env(TASKS, 1, backend="native", seed=2)
    for i, state in enumerate(env.env_method("get_state")):
        fresh.env_method("set_state", state, indices=[i])
    assert_same_steps([fresh.step(a) for a in actions[1:]], [env.step(a) for a in actions[1:]])
    env.close()
    fresh.close()


def test_results_do_not_depend_on_threads_or_on_the_number_of_copies():
    alone = [make_vec_env([task], 1, backend="native", seed=3, task_id=False) for task in HALF]
    together = [
        make_vec_env(HALF, 1, backend="native", seed=3, task_id=False, threads=threads) for threads in (1, 3)
    ]
    for i, env in enumerate(alone):
        env.env_method("set_task", 0, i)
        env.reset()
        for other in together:
            other.env_method("set_task", i, i, indices=[i])
    for env in together:
        env.reset()
    for action in random_actions(25, len(HALF)):
        single = [env.step(action[i : i + 1]) for i, env in enumerate(alone)]
        for env in together:
            obs, reward, _, _ = env.step(action)
            np.testing.assert_array_equal(obs, np.concatenate([step[0] for step in single]))
            np.testing.assert_array_equal(reward, np.concatenate([step[1] for step in single]))
    for env in (*alone, *together):
        env.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_step_async_gives_what_step_gives_and_leaves_the_caller_free(threads):
    one, other = (make_vec_env(TASKS, 2, backend="native", seed=3, horizon=20, threads=threads) for _ in "ab")
    one.reset()
    other.reset()
    for action in random_actions(50, 6):
        one.step_async(action)
        # The caller's own arrays may be reused in the meantime.
        expected = other.step(action.copy())
        action[:] = np.nan
        assert_same_steps([one.step_wait()], [expected])
    one.close()
    other.close()


def test_the_step_runs_without_the_interpreter():
    """Python code goes on while 200 copies are stepped in the background."""
    env = make_vec_env(["reach-v3"], 200, backend="native", threads=1)
    env.reset()
    actions = random_actions(1, 200)[0]
    counted = 0
    env.step_async(actions)
    while env._threads.running and not env._threads.running[0].done():
        counted += 1
    env.step_wait()
    assert counted > 50
    env.close()


def test_misuse_is_refused_before_anything_is_simulated():
    env = make_vec_env(TASKS, 1, backend="native")
    with pytest.raises(RuntimeError, match="call reset first"):
        env.step(np.zeros((3, 4), np.float32))
    env.reset()
    before = env.env_method("get_state")
    with pytest.raises(ValueError, match=r"shape \(2, 4\)"):
        env.step_async(np.zeros((2, 4), np.float32))
    for bad in (np.nan, np.inf, -np.inf):
        action = np.zeros((3, 4), np.float32)
        action[1, 2] = bad
        with pytest.raises(NotFiniteError, match=r"copy 1 \(drawer-close-v3\)"):
            env.step_async(action)
    with pytest.raises(RuntimeError, match="call step_async first"):
        env.step_wait()
    for state, state2 in zip(before, env.env_method("get_state"), strict=True):
        np.testing.assert_array_equal(state["physics"], state2["physics"])
    env.step_async(np.zeros((3, 4), np.float32))
    with pytest.raises(RuntimeError, match="a step is under way"):
        env.step_async(np.zeros((3, 4), np.float32))
    with pytest.raises(RuntimeError, match="a step is under way"):
        env.env_method("get_state")
    env.step_wait()
    with pytest.raises(AttributeError, match="no method 'fly'"):
        env.env_method("fly")
    with pytest.raises(AttributeError, match="of their own"):
        env.set_attr("horizon", 3)
    with pytest.raises(ValueError, match="render_mode"):
        env.env_method("render")
    assert env.env_is_wrapped(object) == [False] * 3
    assert env.get_attr("horizon") == [500] * 3
    env.close()


@pytest.mark.parametrize("fault", [("qvel", 1e12), ("qpos", np.nan)])
def test_an_unstable_simulation_ends_the_episode_of_its_copy_alone(fault, caplog, tmp_path, monkeypatch):
    # MuJoCo writes a log file into the working directory.
    monkeypatch.chdir(tmp_path)
    field, value = fault
    faulty, sound = (make_vec_env(TASKS, 1, backend="native", seed=3) for _ in "ab")
    stock = make_vec_env(TASKS, 1, backend="stock", workers=1, seed=3)
    for env in (faulty, sound, stock):
        env.reset()
    actions = random_actions(30, 3)
    for action in actions[:10]:
        last, *_ = faulty.step(action)
        sound.step(action)
        stock.step(action)
    getattr(faulty._simulations[1].data, field)[:] = value
    getattr(stock.envs[1]._env().data, field)[:] = value
    with caplog.at_level(logging.WARNING):
        obs, reward, done, infos = faulty.step(actions[10])
    expected = sound.step(actions[10])
    assert_same_steps([(obs, reward, done, infos)], [stock.step(actions[10])])
    assert "copy 1 (drawer-close-v3)" in caplog.text
    assert done.tolist() == [False, True, False]
    assert infos[1]["unstable"]
    assert infos[1]["TimeLimit.truncated"]
    assert infos[1]["episode"]["l"] == 10
    assert reward[1] == 0
    np.testing.assert_array_equal(infos[1]["terminal_observation"], last[1])
    assert np.isfinite(obs).all()
    np.testing.assert_array_equal(obs[[0, 2]], expected[0][[0, 2]])
    # What begins now is a sound episode, equal to one that no fault went before.
    goal = faulty.reset_infos[1]["goal"]
    sound.env_method("set_task", 1, goal, indices=[1])
    fresh = sound.reset()
    np.testing.assert_array_equal(obs[1], fresh[1])
    for action in actions[11:]:
        obs, reward, done, infos = faulty.step(action)
        expected = sound.step(action)
        np.testing.assert_array_equal(obs[1], expected[0][1])
        assert reward[1] == expected[1][1]
        assert "unstable" not in infos[1]
    for env in (faulty, sound, stock):
        env.close()


def step_in_child(env, action, queue):
    env.step_async(action)
    queue.put(env.step_wait()[0])
    env.close()


def test_a_forked_child_steps_its_parents_environment():
    env = make_vec_env(TASKS, 2, backend="native", threads=2)
    env.reset()
    first, second = random_actions(2, 6)
    env.step_async(first)
    env.step_wait()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=step_in_child, args=(env, second, queue))
    child.start()
    in_child = queue.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0
    np.testing.assert_array_equal(in_child, env.step(second)[0])
    env.close()


def test_two_environments_step_in_two_threads_of_one_process():
    envs = [make_vec_env(TASKS, 2, backend="native", threads=2, seed=4, horizon=20) for _ in "ab"]
    actions = random_actions(40, 6)
    results = {}

    def play(i):
        envs[i].reset()
        results[i] = [envs[i].step(action) for action in actions]

    threads = [threading.Thread(target=play, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same_steps(results[0], results[1])
    for env in envs:
        env.close()


RENDER = """
import mujoco, numpy as np, sys
from mtrl.env.make import make_vec_env
try:
    mujoco.GLContext(8, 8).free()
except Exception as error:
    sys.exit(f"no OpenGL here: {error}")
options = {"seed": 3, "render_mode": "rgb_array"}
native = make_vec_env(["door-open-v3"], 2, backend="native", **options)
plain = make_vec_env(["door-open-v3"], 2, backend="native", seed=3)
stock = make_vec_env(["door-open-v3"], 2, backend="stock", workers=1, **options)
envs = native, plain, stock
actions = np.random.default_rng(0).uniform(-1, 1, (12, 2, 4)).astype(np.float32)
for env in envs:
    env.reset()
    for action in actions[:6]:
        env.step(action)
frame, expected = (env.env_method("render", indices=[1])[0].astype(int) for env in (native, stock))
assert frame.shape == (480, 480, 3)
assert frame.std() > 10
assert np.abs(frame - expected).max() <= 2, np.abs(frame - expected).max()
for action in actions[6:]:
    steps = [env.step(action) for env in envs]
    assert all((step[0] == steps[0][0]).all() for step in steps)
"""


def test_frames_are_those_of_stock_and_rendering_changes_nothing():
    # Which OpenGL MuJoCo uses is decided when it is imported, so before this process could say.
    environment = {"MUJOCO_GL": "egl"} | os.environ
    done = subprocess.run(
        [sys.executable, "-c", RENDER], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    if done.stderr.startswith("no OpenGL here"):
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr


def test_supported_tasks_are_mt10_and_others_go_to_stock():
    assert native.unavailable() is None
    assert choose_backend("auto", ["reach-v3"], "v2") == "native"
    assert choose_backend("auto", ["reach-v3", "hammer-v3"], "v2") == "stock"
    assert choose_backend("auto", ["reach-v3"], "v1") == "stock"


LOADED = """
import sys
from mtrl.env.make import make_vec_env
env = make_vec_env(["window-open-v3", "reach-v3"], backend="native")
env.reset()
names = [name.removeprefix("mtrl.env.native.tasks.") for name in sys.modules]
print(*sorted(set(names) - set(sys.modules)))
"""


def test_an_environment_loads_the_rewards_of_its_own_tasks_alone():
    done = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["reach", "window_open"], done.stderr


def test_each_file_is_the_task_that_it_says():
    _, modules = native.load(MT10)
    for task, module in zip(MT10, modules, strict=True):
        assert module.__doc__.startswith(f"{task}:")


def test_direct_construction_matches_the_factory():
    one = reference.native_env(TASKS, copies=1, seed=4)
    other = make_vec_env(TASKS, 1, backend="native", seed=4)
    np.testing.assert_array_equal(one.reset(), other.reset())
    one.close()
    other.close()
