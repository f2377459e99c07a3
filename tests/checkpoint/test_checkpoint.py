"""Checkpoints: what is written is what is read, models load elsewhere, and old ones make room."""

import json
from itertools import pairwise

import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces

import mtrl
from mtrl.algo.replay import TaskReplayBuffer
from mtrl.checkpoint.state import read_values, write_values
from mtrl.checkpoint.store import facts_of, restore_segments, write_segments
from mtrl.errors import DamagedError


def test_values_come_back_as_they_were(tmp_path):
    values = {
        "numbers": {"large": 2**127 + 1, "exact": 0.1 + 0.2, "infinite": -np.inf, "none": None, "yes": True},
        "arrays": [np.arange(6.0).reshape(2, 3), np.array([2**40], dtype=np.uint64), np.zeros((0, 3))],
        "scalar": np.float32(1.5),
        "words": ["a", {"deep": [np.array("text")]}],
    }
    write_values(tmp_path / "s.json", tmp_path / "s.npz", values)
    back = read_values(tmp_path / "s.json", tmp_path / "s.npz")
    assert back["numbers"] == values["numbers"]
    for mine, theirs in zip(back["arrays"], values["arrays"], strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
    assert isinstance(back["scalar"], np.float32)
    assert back["words"][1]["deep"][0] == "text"

    write_values(tmp_path / "other.json", tmp_path / "other.npz", {"x": [np.zeros(1)]})
    with pytest.raises(DamagedError, match="do not belong together"):
        read_values(tmp_path / "s.json", tmp_path / "other.npz")


@pytest.mark.parametrize("value", [object(), {1: 2}, np.array([object()]), {"__array__": "a"}, {1, 2}])
def test_what_cannot_be_saved_is_refused(tmp_path, value):
    with pytest.raises(TypeError):
        write_values(tmp_path / "s.json", tmp_path / "s.npz", {"value": value})


def make_buffer(n_steps):
    spaces_ = [spaces.Box(-1, 1, (size,), np.float32) for size in (3, 2)]
    options = {"n_tasks": 2, "balanced": True, "n_steps": n_steps, "seed": 0}
    return TaskReplayBuffer(100, *spaces_, "cpu", n_envs=10, **options)


def add(buffer, count, random):
    infos = [{"task_id": i % 2} for i in range(count)]
    obs, actions = random.normal(size=(count, 3)), random.normal(size=(count, 2))
    buffer.add(obs, obs + 1, actions, random.normal(size=count), np.zeros(count, bool), infos)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_a_checkpoint_writes_only_what_is_new_and_holds_the_whole_ring(tmp_path, n_steps):
    random = np.random.default_rng(0)
    buffer, written = make_buffer(n_steps), []
    for count in (40, 40, 40, 30, 250):
        for _ in range(count // 10):
            add(buffer, 10, random)
        before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("seg_*")}
        written = write_segments(tmp_path, buffer, written)
        for segment in written:
            assert facts_of(tmp_path / segment.name) == {"size": segment.size, "sha256": segment.sha256}
        assert all(one.high == other.low for one, other in pairwise(written))
        after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("seg_*")}
        assert before.items() <= after.items()
        restored = make_buffer(n_steps)
        restore_segments(tmp_path, written, restored, buffer.total_added)
        assert restored.total_added == buffer.total_added
        low = buffer.total_added - buffer.size()
        mine, theirs = restored.rows(low, buffer.total_added), buffer.rows(low, buffer.total_added)
        for name, values in theirs.items():
            np.testing.assert_array_equal(mine[name], values)
        state = buffer.get_state()
        restored.set_state(state)
        samples = [held.sample(20) for held in (buffer, restored)]
        buffer.set_state(state)
        assert all(torch.equal(a, b) for a, b in zip(*samples, strict=True) if torch.is_tensor(a))


@pytest.mark.parametrize(
    ("algo", "overrides"),
    [
        ("SAC", ["algo=sac", "variant=shared"]),
        ("SAC", ["algo=sac", "algo.cls=stable_baselines3.SAC", "variant=plain"]),
        ("TD3", ["algo=td3", "variant=shared", "env.normalize_observations=true"]),
        ("DDPG", ["algo=ddpg", "variant=plain"]),
    ],
)
def test_models_load_with_stable_baselines3_alone(train, tmp_path, capsys, algo, overrides):
    torch.set_num_threads(1)
    words = ["checkpoint.every=60", "checkpoint.keep=2", "total_steps=240"]
    path = train(tmp_path, "experiment=smoke", *words, *overrides)
    kept = sorted(path.glob("checkpoints/step_*"))
    assert len(kept) == 2
    needed = [json.loads((folder / "manifest.json").read_text())["segments"] for folder in kept]
    names = {f"seg_{segment['low']}_{segment['high']}.npz" for segments in needed for segment in segments}
    assert {segment.name for segment in path.glob("buffer/*")} == names
    for folder in (kept[-1], path / "checkpoints" / "best"):
        model = getattr(stable_baselines3, algo).load(folder / "model.zip", device="cpu")
        obs = np.random.default_rng(0).normal(size=(5, *model.observation_space.shape)).astype(np.float32)
        actions, _ = model.predict(obs, deterministic=True)
        assert actions.shape == (5, 4)
        own = mtrl.load(folder).network.predict(obs, deterministic=True)[0]
        np.testing.assert_array_equal(actions, own)
        assert (folder / "normaliser.npz").exists() == ("env.normalize_observations=true" in overrides)
        assert json.loads((folder / "score.json").read_text())["step"] > 0
