"""The evaluation protocol, and that its success rates are those of Meta-World's own evaluation."""

from functools import partial

import gymnasium
import metaworld
import numpy as np
import pytest
from metaworld.evaluation import evaluation as metaworlds_evaluation
from metaworld.policies import ENV_POLICY_MAP
from metaworld.wrappers import AutoTerminateOnSuccessWrapper, PseudoRandomTaskSelectWrapper

from mtrl.env.make import make_vec_env
from mtrl.env.metaworld import goal_set
from mtrl.evaluation.protocol import Evaluation, TaskResult, evaluate
from mtrl.tasks import GOALS

TASKS = ["reach-v3", "drawer-close-v3", "push-v3"]
SEED, EPISODES = 4, 8


class ScriptedExperts:
    """Meta-World's scripted policies, in the form that its own evaluation takes.

    Those of reach and of push give up on some goals. Which ones depends on the goal alone, so that both evaluations
    meet it in whatever order.
    """

    def __init__(self, tasks):
        self.tasks = tasks
        self.policies = [ENV_POLICY_MAP[task]() for task in tasks]

    def __call__(self, observations, tasks):
        return np.array(
            [self._action(obs[:39], task) for obs, task in zip(observations, tasks, strict=True)], np.float32
        )

    def _action(self, obs, task):
        if self.tasks[task] in ("reach-v3", "push-v3") and obs[36] > 0.0:
            return np.array([-1.0, -1.0, 1.0, 0.0])
        return np.clip(self.policies[task].get_action(obs.astype(np.float64)), -1, 1)

    def eval_action(self, observations):
        return self(observations, range(len(observations)))

    def reset(self, env_mask):
        pass


def metaworlds_env(task, first):
    """Meta-World's own chain of wrappers over the first goals, each met once."""
    benchmark = metaworld.MT1(task, seed=SEED)
    env = gymnasium.wrappers.TimeLimit(benchmark.train_classes[task](reward_function_version="v2"), 500)
    env = gymnasium.wrappers.RecordEpisodeStatistics(AutoTerminateOnSuccessWrapper(env))
    env = PseudoRandomTaskSelectWrapper(env, list(benchmark.train_tasks[:first]))
    env.toggle_sample_tasks_on_reset(True)
    return env


@pytest.fixture(scope="module")
def metaworlds_rates():
    mode = gymnasium.vector.AutoresetMode.SAME_STEP
    make = [partial(metaworlds_env, task, EPISODES) for task in TASKS]
    envs = gymnasium.vector.SyncVectorEnv(make, autoreset_mode=mode)
    _, _, rates, _ = metaworlds_evaluation(ScriptedExperts(TASKS), envs, EPISODES)
    envs.close()
    return rates


@pytest.mark.filterwarnings("ignore:Constant.* may be too high")
@pytest.mark.parametrize(
    ("backend", "copies"), [pytest.param("stock", 1, marks=pytest.mark.slow), ("native", 4)]
)
def test_success_rates_are_those_of_metaworlds_evaluation(metaworlds_rates, backend, copies):
    env = make_vec_env(TASKS, copies, seed=SEED, backend=backend, workers=1, threads=1)
    experts = ScriptedExperts(TASKS)
    result = evaluate(lambda obs: experts(obs, obs[:, 39:].argmax(1)), env, TASKS, EPISODES)
    env.close()
    assert {row.task: row.success_rate for row in result.results} == metaworlds_rates
    rates = list(metaworlds_rates.values())
    assert max(rates) == 1
    assert 0 < min(rates) < 1, "the spoilt experts should fail at times"
    assert {row.mean_length for row in result.results} == {500}


def played(tasks, copies, episodes):
    """Evaluate a policy that stands still; return the result, and task, goal and return of every episode."""
    env, ended = make_vec_env(tasks, copies, seed=SEED, horizon=3, backend="stock", workers=1), []
    step = env.step

    def noted(actions):
        result = step(actions)
        ended.extend((i["task_id"], i["goal"], i["episode"]["r"]) for i in result[3] if "episode" in i)
        return result

    env.step = noted
    return evaluate(still, env, tasks, episodes), ended


def still(obs):
    return np.zeros((len(obs), 4), np.float32)


@pytest.mark.parametrize("copies", [1, [3, 0], [2, 2]])
def test_every_goal_is_played_once_by_each_task_whatever_the_copies(copies):
    result, ended = played(TASKS[:2], copies, GOALS)
    assert [row.episodes for row in result.results] == [GOALS, GOALS]
    first = sorted({(task, goal) for task, goal, _ in ended})
    assert first == [(task, goal) for task in range(2) for goal in range(GOALS)]
    # A copy that found the queue empty plays on until the others are done; that counts for nothing.
    by_goal = {(task, goal): episode_return for task, goal, episode_return in ended}
    for task, row in enumerate(result.results):
        returns = [value for (its, _), value in by_goal.items() if its == task]
        assert row.mean_return == pytest.approx(np.mean(returns))


def test_more_episodes_than_goals_begin_again_and_fewer_take_the_first():
    for episodes, expected in ((3, [0, 1, 2]), (52, [*range(50), 0, 1])):
        assert [goal for _, goal, _ in played(TASKS[:1], 1, episodes)[1]] == expected


def test_held_out_goals_are_others_and_are_labelled():
    env = make_vec_env(TASKS[:1], 1, seed=SEED, goals="heldout", horizon=2, backend="stock", workers=1)
    seen = []
    result = evaluate(lambda obs: still(seen.append(obs[0, 36:39]) or obs), env, TASKS[:1], 5, "heldout")
    assert result.results[0].goals == "heldout"
    trained_on = goal_set("reach-v3", SEED)[:, -3:].astype(np.float32)
    assert not (np.array(seen)[:, None] == trained_on[None]).all(-1).any()
    env.close()


def test_success_at_any_step_counts_and_does_not_end_the_episode():
    env = make_vec_env(["reach-v3"], 1, seed=SEED, horizon=120, backend="stock", workers=1)
    steps = 0

    def there_and_away(obs):
        nonlocal steps
        steps += 1
        sign = 1 if steps % 120 < 80 else -1
        return np.append(np.clip(sign * 10 * (obs[0, 36:39] - obs[0, :3]), -1, 1), 0).astype(np.float32)[None]

    result = evaluate(there_and_away, env, ["reach-v3"], 2)
    assert (result.success_rate, result.results[0].mean_length) == (1.0, 120)
    env.close()


def test_the_score_is_mean_success_and_ties_go_by_return():
    def made(*pairs):
        return Evaluation(tuple(TaskResult("reach-v3", "train", 5, s, r, 500.0) for s, r in pairs))

    assert made((1, 10), (0, 10)).score < made((0.5, 15), (0.5, 10)).score < made((1, 0), (0.5, 0)).score
    assert made((1, 10), (0, 20)).success_rate == 0.5
    assert made((1, 10), (0, 20)).mean_return == 15
