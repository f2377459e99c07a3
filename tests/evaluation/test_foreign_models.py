"""Models from elsewhere: sizes that a description claims, exploration by state, statistics that a zip lacks."""

import warnings

import pytest
import stable_baselines3
import yaml
from saved_runs import TASKS, save_run
from stable_baselines3.common.vec_env import VecNormalize

import mtrl
from mtrl.errors import ConfigurationError, LoadError
from mtrl.evaluation import policy
from mtrl.experiment import compose_run
from mtrl.transfer.source import read_source

SB3 = ("algo.cls=stable_baselines3.SAC", "variant=shared", "algo.kwargs.use_sde=true")


@pytest.fixture(scope="module")
def exploring(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("sde"), "task=null", f"env.tasks=[{','.join(TASKS)}]", *SB3)


@pytest.mark.parametrize(
    "values",
    [
        {"actor_layers": [16384] * 40},
        {"critic_layers": [16384] * 40},
        {"critic_layers": [16384] * 2, "n_critics": 10**9},
        {"critic_layers": [1] * 100},
        {"actor_layers": [10**9]},
    ],
)
def test_networks_larger_than_the_file_are_refused_before_they_are_made(tmp_path, monkeypatch, values):
    run = save_run(tmp_path, "task=null", f"env.tasks=[{','.join(TASKS)}]", "variant=multihead")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["variant"] |= values
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr(policy, "build_policy", lambda *_, **__: pytest.fail("something was allocated"))
    with pytest.raises(LoadError, match="does not hold its weights"):
        mtrl.load(run)


def test_a_run_that_explores_by_state_is_loaded_and_refused_as_a_source_for_what_it_is(exploring):
    loaded = mtrl.load(exploring)
    env = mtrl.make_vec_env(list(TASKS), 1)
    obs = env.reset()
    drawn = [loaded.predict(obs, deterministic=False)[0] for _ in range(2)]
    assert loaded.act(obs).shape == drawn[0].shape == (2, 4)
    env.close()
    for source in (exploring, exploring / "checkpoints" / "best" / "model.zip"):
        cfg = compose_run(["experiment=mt3", f"transfer.source='{source}'"]).config
        with pytest.raises(ConfigurationError, match="explored by state"):
            read_source(cfg)


@pytest.mark.parametrize("changed", [True, False])
def test_a_zip_whose_observations_were_normalised_elsewhere_is_loaded_with_a_warning(tmp_path, changed):
    env = mtrl.make_vec_env(list(TASKS), 1, seed=1, horizon=20)
    seen = VecNormalize(env) if changed else env
    small = {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 200, "learning_starts": 500, "device": "cpu"}
    stable_baselines3.SAC("MlpPolicy", seen, **small).learn(90).save(tmp_path / "model.zip")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        mtrl.load(tmp_path / "model.zip", trust=True, tasks=TASKS)
    assert [each.filename for each in said if "VecNormalize" in str(each.message)] == [__file__] * changed
    (tmp_path / "vecnormalize.pkl").write_bytes(b"")
    with pytest.warns(UserWarning, match="train with env.normalize_observations=true"):
        mtrl.load(tmp_path / "model.zip", trust=True, tasks=TASKS)
    env.close()
