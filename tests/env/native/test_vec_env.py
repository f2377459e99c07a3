"""The native environments return what the stock ones return, whatever the threads; misuse is refused."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from stepping import assert_same_steps, play, random_actions
from tiny_runs import REPOSITORY, python

from mtrl.env import native
from mtrl.env.make import choose_backend
from mtrl.tasks import MT10, MT50, NATIVE

TASKS = ["reach-v3", "drawer-close-v3", "push-v3"]
HALF = list(MT10[1::2])


@pytest.mark.parametrize("terminate_on_success", [False, True])
@pytest.mark.parametrize("task_id", [False, True])
def test_everything_returned_is_what_stock_returns(
    tmp_path, monkeypatch, task_id, terminate_on_success, make
):
    # MuJoCo writes a log file into the working directory.
    monkeypatch.chdir(tmp_path)
    options = {"horizon": 30, "seed": 5, "task_id": task_id, "terminate_on_success": terminate_on_success}
    native = make("native", TASKS, [2, 1, 1], threads=2, **options)
    stock = make("stock", TASKS, [2, 1, 1], **options)
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
        if step == 70:
            native._simulations[1].data.qvel[:] = stock.envs[1].simulation()[1].qvel[:] = 1e12
        for env, steps in zip((native, stock), results, strict=True):
            steps.append(env.step(action))
        assert native.reset_infos == stock.reset_infos
    # On some processors numpy's BLAS rounds the norms in Meta-World's rewards differently in the last digit.
    assert_same_steps(*results, rel=1e-12)
    assert sum("unstable" in info for info in results[0][70][3]) == 1
    ends = [info for _, _, _, infos in results[0] for info in infos if "episode" in info]
    assert len(ends) >= 12
    assert {info["task_id"] for info in ends} == {0, 1, 2}


def test_results_do_not_depend_on_threads_or_on_the_number_of_copies(make):
    alone = [make("native", [task], 1, seed=3, task_id=False) for task in HALF]
    together = [make("native", HALF, 1, seed=3, task_id=False, threads=threads) for threads in (1, 3)]
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


@pytest.mark.parametrize("threads", [1, 2])
def test_step_async_gives_what_step_gives_and_leaves_the_caller_free(threads, make):
    one, other = (make("native", TASKS, 2, seed=3, horizon=20, threads=threads) for _ in "ab")
    one.reset()
    other.reset()
    for action in random_actions(50, 6):
        one.step_async(action)
        # The caller's own arrays may be reused in the meantime.
        expected = other.step(action.copy())
        action[:] = np.nan
        assert_same_steps([one.step_wait()], [expected])


def test_the_step_runs_without_the_interpreter(make):
    """Python code goes on while 200 copies are stepped in the background."""
    env = make("native", ["reach-v3"], 200, threads=1)
    env.reset()
    actions = random_actions(1, 200)[0]
    counted = 0
    env.step_async(actions)
    while env._running and not env._running[0].done():
        counted += 1
    env.step_wait()
    assert counted > 50


def step_in_child(env, action, queue):
    env.step_async(action)
    queue.put(env.step_wait()[0])
    env.close()


def test_a_forked_child_steps_its_parents_environment(make):
    env = make("native", TASKS, 2, threads=2)
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


def test_two_environments_step_in_two_threads_of_one_process(make):
    envs = [make("native", TASKS, 2, threads=2, seed=4, horizon=20) for _ in "ab"]
    actions = random_actions(40, 6)

    def play_all(env):
        env.reset()
        return play(env, actions)

    with ThreadPoolExecutor(2) as pool:
        assert_same_steps(*pool.map(play_all, envs))


RENDER = """
import numpy as np, sys
from mtrl.env.make import make_vec_env
from mtrl.errors import NoGraphicsError
options = {"seed": 3, "render_mode": "rgb_array"}
native = make_vec_env(["door-open-v3"], 2, backend="native", **options)
assert [name for name in sys.modules if "native.tasks." in name] == ["mtrl.env.native.tasks.door_open"]
plain = make_vec_env(["door-open-v3"], 2, backend="native", seed=3)
stock = make_vec_env(["door-open-v3"], 2, backend="stock", workers=1, **options)
envs = native, plain, stock
actions = np.random.default_rng(0).uniform(-1, 1, (12, 2, 4)).astype(np.float32)
for env in envs:
    env.reset()
    for action in actions[:6]:
        env.step(action)
try:
    frame, expected = (env.env_method("render", indices=[1])[0].astype(int) for env in (native, stock))
except NoGraphicsError as error:
    sys.exit(f"no OpenGL here: {error}")
assert frame.shape == (480, 480, 3)
assert frame.std() > 10
assert np.abs(frame - expected).max() <= 2, np.abs(frame - expected).max()
for action in actions[6:]:
    steps = [env.step(action) for env in envs]
    assert all((step[0] == steps[0][0]).all() for step in steps)
"""


def test_rewards_of_its_own_tasks_alone_are_loaded_frames_are_those_of_stock_and_rendering_changes_nothing():
    # In a process of its own, which has no screen and has not been told what draws without one.
    done = python("-c", RENDER, cwd=REPOSITORY, MUJOCO_GL="", DISPLAY="")
    if done.stderr.startswith("no OpenGL here"):
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr


def test_what_only_stock_can_do_goes_to_stock_with_a_line(caplog):
    assert native.unavailable() is None
    assert choose_backend("auto", MT50, "v2") == choose_backend("auto", MT10, "v1") == "native"
    assert not caplog.records
    assert choose_backend("auto", ["reach-v3", "hammer-v3"], "v1") == "stock"
    assert "do not have the v1 reward of all of these tasks" in caplog.text


def test_another_metaworld_is_looked_at_and_stock_takes_over_where_a_body_is_missing(monkeypatch, caplog):
    monkeypatch.setattr(native, "TESTED", "0.0.0")
    tasks = ["reach-v3", "push-v3"]
    assert choose_backend("auto", tasks, "v2") == "native"
    push = native.load(tasks, "v2")[1][1]
    monkeypatch.setattr(push, "places", {"object": "body puck xpos"})
    assert choose_backend("auto", tasks, "v2") == "stock"
    assert "the model of push-v3 is not that of metaworld 0.0.0 (Invalid name 'puck'" in caplog.text
    with pytest.raises(ValueError, match="the native backend cannot be used: the model of push-v3"):
        choose_backend("native", tasks, "v2")


def test_each_file_is_the_task_that_it_says():
    _, modules = native.load(MT50, "v2")
    for task, module in zip(MT50, modules, strict=True):
        assert module.__doc__.startswith(f"{task}:")
        assert hasattr(module, "reward_v1") == (task in NATIVE["v1"])
