"""What version 0.1.0 wrote stays of use: names of run directories, a run with its checkpoint, a model."""

import csv
import tarfile

import numpy as np
import pytest
from stable_baselines3.common.save_util import load_from_zip_file
from tiny_runs import REPOSITORY

import mtrl
from mtrl.algo.sac import SAC
from mtrl.errors import ConfigurationError
from mtrl.experiment import compose_run, run_directory
from mtrl.start import run_one

DATA = REPOSITORY / "tests" / "data"
PINNED = [line.split(" -> ") for line in (DATA / "directories.txt").read_text().splitlines()]


@pytest.mark.parametrize(("words", "directory"), PINNED)
def test_a_run_keeps_its_directory(words, directory):
    assert str(run_directory(compose_run(words.split()))) == directory


RUN = """
experiment=mt3 curriculum=progressive variant=multihead curriculum.min_steps=100 curriculum.check_every=50
curriculum.stages=[[reach-v3],[reach-v3,push-v3],[reach-v3,push-v3,pick-place-v3]] curriculum.thresholds=[0,0]
curriculum.check_episodes=1 algo.updates=1 env.horizon=20 evaluation.horizon=20 env.copies_per_task=1
algo.learning_starts=100 algo.batch_size=150 algo.buffer_size=1000
variant.actor_layers=[16,16] variant.critic_layers=[16,16]
evaluation.every=150 evaluation.episodes=1 evaluation.final_episodes=2 logging.every=100 logging.tensorboard=false
hardware=cpu hardware.workers=1 hardware.threads=1 hardware.torch_threads=1 hardware.backend=native
variant.layer_norm=false
"""
# 200 steps of this run lie in ``before``, and what version 0.1.0 made of 400 in ``after``.


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    with tarfile.open(DATA / "run-0.1.0.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def assert_equal_tables(ours, theirs):
    """Other processors round otherwise in the last digits."""
    for row, expected in zip(rows_of(ours), rows_of(theirs), strict=True):
        for cell, expected_cell in zip(row, expected, strict=True):
            try:
                assert float(cell) == pytest.approx(float(expected_cell), rel=1e-3, abs=1e-4), expected
            except ValueError:
                assert cell == expected_cell


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_of_version_0_1_0_continues_as_that_version_continued_it(kept):
    composition = compose_run([*RUN.split(), "total_steps=400", f"output={kept / 'before'}"])
    path = run_directory(composition)
    assert (path / "checkpoints" / "step_201").is_dir()
    assert run_one(composition) == 0
    expected = kept / "after" / path.relative_to(kept / "before")
    for log in ("metrics.csv", "evaluation.csv"):
        assert_equal_tables(path / log, expected / log)
    weights, expected_weights = (weights_of(each / "checkpoints" / "step_402") for each in (path, expected))
    assert weights.keys() == expected_weights.keys()
    for name, values in expected_weights.items():
        np.testing.assert_allclose(weights[name], values, rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_run_of_version_0_1_0_with_short_episodes_is_not_silently_evaluated_at_another_horizon(kept):
    words = RUN.replace("evaluation.horizon=20", "").split()
    composition = compose_run([*words, "total_steps=500", f"output={kept / 'before'}"])
    with pytest.raises(ConfigurationError, match=r"add evaluation\.horizon=20 to continue it exactly"):
        run_one(composition)


def weights_of(checkpoint):
    _, parameters, _ = load_from_zip_file(checkpoint / "model.zip", load_data=False)
    return parameters["policy"]


def test_a_model_of_version_0_1_0_loads_here_and_in_stable_baselines3(kept):
    model = next((kept / "after").rglob("step_402")) / "model.zip"
    policy = mtrl.load(model.parent)
    agent = SAC.load(model, device="cpu")
    obs = np.linspace(-1, 1, 42, dtype=np.float32)
    obs[39:] = (0, 1, 0)
    np.testing.assert_array_equal(policy.predict(obs)[0], agent.predict(obs, deterministic=True)[0])
