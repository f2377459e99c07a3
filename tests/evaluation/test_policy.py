"""A saved policy acts as it did in training, and no file beside it can do more than describe it."""

import shutil

import numpy as np
import pytest
import torch
import yaml
from payloads import Payload, plant_in_data
from saved_runs import TASKS, of_version, save_run, with_last
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.vec_env import VecNormalize

import mtrl
from mtrl.config.types import load_class
from mtrl.env.make import make_vec_env
from mtrl.errors import LoadError
from mtrl.evaluation.policy import load

MT2 = f"env.tasks=[{','.join(TASKS)}]"
TWO = ("experiment=mt3", MT2)
PLAIN_SAC = (
    *("algo.balanced_batches=false", "algo.temperature=shared", "algo.max_gradient_norm=null"),
    *("algo.reward_scaling=none", "algo.overlap=false"),
)


def observations(task_id=True):
    env = make_vec_env(TASKS, 2, seed=3, backend="native", threads=1, task_id=task_id)
    obs = [env.reset()] + [env.step(np.ones((4, 4), np.float32) * 0.5)[0] for _ in range(5)]
    env.close()
    return np.concatenate(obs)


@pytest.mark.parametrize(
    "overrides",
    [
        ("algo=sac", "variant=shared"),
        ("algo=sac", "variant=plain"),
        ("algo=sac", "variant=multihead", "variant.actor_heads=true"),
        ("algo=td3", "variant=multihead", "variant.layer_norm=true"),
        ("algo=ddpg", "variant=shared"),
        ("algo=sac", "algo.cls=stable_baselines3.SAC", *PLAIN_SAC),
        ("algo=sac", "variant=shared", "env.normalize_observations=true", "env.normalize_reward=true"),
    ],
)
def test_a_loaded_policy_acts_as_the_model_that_was_saved(tmp_path, overrides):
    run = save_run(tmp_path, *TWO, *overrides)
    config = yaml.safe_load((run / "config.yaml").read_text())
    obs = observations("variant=plain" not in overrides)
    policy = mtrl.load(run)
    theirs = load_class(config["algo"]["cls"]).load(run / "checkpoints" / "best" / "model.zip", device="cpu")
    seen = obs
    if "env.normalize_observations=true" in overrides:
        with np.load(run / "checkpoints" / "best" / "normaliser.npz") as saved:
            scale = np.sqrt(saved["observation_var"] + saved["epsilon"])
            seen = np.clip((obs - saved["observation_mean"]) / scale, -saved["clip_obs"], saved["clip_obs"])
        assert np.abs(seen - obs).max() > 0.1
    expected, _ = theirs.predict(seen.astype(np.float32), deterministic=True)
    actions, state = policy.predict(obs)
    np.testing.assert_allclose(actions, expected, rtol=0, atol=1e-6)
    assert state is None
    assert np.ptp(actions, axis=0).max() > 1e-4
    assert policy.tasks == TASKS
    assert (policy.step, policy.seed) == (60, 1)
    np.testing.assert_allclose(policy.predict(obs[0])[0], expected[0], rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("runs"), *TWO)


@pytest.fixture
def copy(run, tmp_path):
    """Return a copy of the run that may be damaged."""
    return shutil.copytree(run, tmp_path / "run")


def changed(run, **values):
    config = yaml.safe_load((run / "config.yaml").read_text())
    for key, value in values.items():
        group, _, name = key.partition("__")
        config[group][name] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run


def test_a_checkpoint_and_a_model_in_a_run_know_their_run_and_draw_actions_only_if_that_is_asked_for(run):
    torch.manual_seed(0)
    best, policy, obs = run / "checkpoints" / "best", load(run), observations()
    for source in (best, best / "model.zip", str(best)):
        assert load(source).tasks == TASKS
        assert (load(source).predict(obs)[0] == policy.predict(obs)[0]).all()
    drawn = [policy.predict(obs, deterministic=False)[0] for _ in range(2)]
    assert (drawn[0] != drawn[1]).any()
    assert np.abs(drawn).max() <= 1
    with pytest.raises(ValueError, match=r"\(2, 39\) do not fit.*one-hot of 2"):
        policy.predict(np.zeros((2, 39), np.float32))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"algo__cls": "os.system"}, "names the algorithm os.system"),
        ({"algo__cls": "mtrlx.algo.SAC"}, "a class is only taken from mtrl"),
        ({"algo__cls": "sb3_contrib.Gone"}, "sb3_contrib.Gone, which is gone"),
        ({"algo__cls": "mtrl.algo.OldSAC"}, "mtrl.algo.OldSAC, which is gone"),
        ({"algo__cls": "mtrl.config.types.Config"}, "which is no algorithm"),
        ({"algo__cls": None}, "names the algorithm None"),
        ({"variant__actor_layers": [17, 16]}, r"does not hold its weights .*17"),
        ({"variant__actor_layers": [10**12]}, r"does not hold its weights .*actor_layers"),
        ({"variant__name": "triple"}, "does not hold its weights .*triple"),
        ({"env__tasks": ["reach-v3"]}, "does not hold its weights"),
        ({"env__tasks": ["reach-v2", "push-v3"]}, "tasks that do not exist"),
        ({"evaluation__horizon": 501}, "horizon=501"),
    ],
)
def test_a_run_that_cannot_be_built_is_refused_in_one_sentence(copy, values, sentence):
    with pytest.raises(LoadError, match=sentence) as refusal:
        load(changed(copy, **values))
    assert "\n" not in str(refusal.value)


def test_a_run_of_another_version_is_loaded_with_a_warning_and_a_refusal_names_the_version(copy):
    of_version(copy, "0.0.1")
    with pytest.warns(UserWarning, match=r"was trained by mtrl 0\.0\.1, and this is ") as warned:
        assert mtrl.load(copy).version == "0.0.1"
    assert warned[0].filename == __file__, "it should point to the caller's line"
    with pytest.raises(LoadError, match=r"trained by mtrl 0\.0\.1"):
        load(changed(copy, variant__actor_layers=[17, 16]))


def test_damaged_files_are_refused_in_one_sentence(copy):
    best = copy / "checkpoints" / "best"
    whole = (best / "model.zip").read_bytes()
    model = mtrl.algo.SAC.load(best / "model.zip", device="cpu")
    with torch.no_grad():
        next(model.actor.parameters()).fill_(float("nan"))
    model.save(best / "model.zip")
    with pytest.raises(LoadError, match="NaN or infinite"):
        load(copy)
    (best / "model.zip").write_bytes(whole[: len(whole) // 2])
    # Within its first half lie whole archives, those of the weights, and Python opens the last one it finds.
    with pytest.raises(LoadError, match=r"cannot be read|holds no policy"):
        load(copy)
    (best / "model.zip").write_bytes(whole)
    (best / "normaliser.npz").write_bytes(b"nothing")
    with pytest.raises(LoadError, match=r"normaliser\.npz cannot be read"):
        load(copy)
    size = np.zeros(40)
    statistics = {"norm_obs": True, "norm_reward": False, "clip_obs": 10.0, "epsilon": 1e-8, "return_mean": 0}
    statistics |= {"return_var": 1.0, "return_count": 1.0, "observation_count": 1.0}
    np.savez(best / "normaliser.npz", **statistics, observation_mean=size, observation_var=size)
    with pytest.raises(LoadError, match="what lies beside it do not fit"):
        load(copy)
    (best / "normaliser.npz").unlink()
    (copy / "config.yaml").write_text("env: [")
    with pytest.raises(LoadError, match=r"config\.yaml cannot be read"):
        load(copy)


def test_what_a_model_pickles_is_not_run_unless_it_is_trusted(copy, tmp_path):
    model, mark = copy / "checkpoints" / "best" / "model.zip", tmp_path / "mark"
    plant_in_data(model, Payload(mark))
    shutil.copy(model, tmp_path / "bomb.zip")
    assert load(copy).predict(observations())[0].shape == (24, 4)
    with pytest.raises(LoadError, match=r"pickled.*--trust"):
        load(tmp_path / "bomb.zip")
    assert not mark.exists()
    with pytest.raises(LoadError, match="cannot be built"):
        load(tmp_path / "bomb.zip", trust=True)
    assert mark.exists(), "the bomb should go off where it is trusted, or this test shows nothing"


@pytest.mark.parametrize("algorithm", [SAC, TD3])
def test_a_trusted_zip_of_stable_baselines3_acts_as_it_does_there(tmp_path, algorithm):
    env = make_vec_env(TASKS, 1, seed=0, backend="native", threads=1)
    kwargs = {"net_arch": [24, 24], "activation_fn": torch.nn.Tanh}
    model = algorithm("MlpPolicy", env, policy_kwargs=kwargs, buffer_size=10, device="cpu")
    env.close()
    model.save(tmp_path / "theirs.zip")
    obs = observations()
    policy = load(tmp_path / "theirs.zip", trust=True)
    assert (policy.predict(obs)[0] == model.predict(obs, deterministic=True)[0]).all()
    assert policy.tasks == ()
    assert load(tmp_path / "theirs.zip", trust=True, tasks=TASKS, seed=4).goals == "train"
    wrong = {"2 tasks and 1 are named": ["reach-v3"], "not a Meta-World task": ["reach", "push-v3"]}
    for sentence, tasks in wrong.items():
        with pytest.raises(LoadError, match=sentence):
            load(tmp_path / "theirs.zip", trust=True, tasks=tasks)


@pytest.mark.parametrize("steps", [30, 40], ids=["within an episode", "after a reset"])
def test_a_zip_that_was_trained_under_vecnormalize_is_said_to_lack_its_statistics(tmp_path, recwarn, steps):
    said = []
    for wrap in (lambda env: env, VecNormalize):
        env = wrap(make_vec_env(TASKS, 1, seed=0, horizon=20, backend="native", threads=1))
        model = SAC("MlpPolicy", env, policy_kwargs={"net_arch": [8]}, buffer_size=50, device="cpu")
        model.learn(steps)
        model.save(tmp_path / "theirs.zip")
        env.close()
        recwarn.clear()
        load(tmp_path / "theirs.zip", trust=True)
        said.append([str(warning.message) for warning in recwarn])
    assert said[0] == []
    assert "VecNormalize normalised, and the statistics are not in it" in said[1][0]


def test_a_run_stands_for_its_best_model_or_its_last(copy):
    with_last(copy, 90)
    assert [mtrl.load(copy, *which).step for which in ((), ("best",), ("last",))] == [60, 60, 90]
    with pytest.raises(LoadError, match="checkpoint=newest is not one of best, last"):
        mtrl.load(copy, "newest")
    (copy / "checkpoints" / "best").rename(copy / "checkpoints" / "step_30")
    assert mtrl.load(copy).step == 90
