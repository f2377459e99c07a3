"""A run that was interrupted and continued is the run that was not, bit for bit."""

import errno
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from stable_baselines3 import SAC
from stable_baselines3.common.save_util import load_from_zip_file
from tiny import interrupt_at

from mtrl.checkpoint.store import sealed
from mtrl.config.compose import compose_run
from mtrl.errors import ConfigurationError, Preempted
from mtrl.experiment import run_directory
from mtrl.rundir.write import sha256
from mtrl.signals import Signals
from mtrl.start import run_once

TINY = [
    "experiment=smoke",
    "env.horizon=20",
    "total_steps=240",
    "algo.learning_starts=40",
    "algo.batch_size=16",
    "algo.buffer_size=150",
    "variant.actor_layers=[8]",
    "variant.critic_layers=[8]",
    "evaluation.every=80",
    "evaluation.episodes=1",
    "evaluation.final_episodes=1",
    "checkpoint.every=1000",
    "logging.every=30",
    "logging.progress=off",
    "logging.tensorboard=false",
    "hardware.torch_threads=1",
    "hardware.threads=1",
]


@dataclass
class Made:
    """What a run left that must not depend on interruptions."""

    path: Path

    @property
    def weights(self) -> dict[str, np.ndarray]:
        newest = self.newest
        _, parameters, variables = load_from_zip_file(newest / "model.zip", load_data=False)
        flat = {}

        def flatten(name, value):
            if torch.is_tensor(value):
                flat[name] = value.detach().numpy()
            elif isinstance(value, dict):
                for key, item in value.items():
                    flatten(f"{name}.{key}", item)
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    flatten(f"{name}.{index}", item)

        flatten("parameters", parameters)
        flatten("variables", variables)
        return flat

    @property
    def newest(self) -> Path:
        return max(self.path.glob("checkpoints/step_*"), key=lambda path: int(path.name[5:]))

    @property
    def transitions(self) -> dict[str, np.ndarray]:
        manifest = json.loads((self.newest / "manifest.json").read_text())
        parts = []
        for segment in manifest["segments"]:
            with np.load(self.path / "buffer" / f"seg_{segment['low']}_{segment['high']}.npz") as file:
                parts.append({name: file[name] for name in file.files})
        held = min(150, manifest["total_added"])
        return {name: np.concatenate([part[name] for part in parts])[-held:] for name in parts[0]}

    @property
    def agent_state(self) -> str:
        """Everything but the clock, with arrays as lists."""
        from mtrl.checkpoint.state import read_values

        state = read_values(self.newest / "state.json", self.newest / "state.npz")
        state["session"].pop("seconds")
        state["session"].pop("logs")
        return json.dumps(state, default=lambda array: array.tolist(), sort_keys=True)

    def log(self, name: str) -> str:
        return (self.path / name).read_text()


def start(output: Path, *overrides: str, tiny: Sequence[str] = TINY) -> tuple[int, Made]:
    composition = compose_run([*tiny, *overrides, f"output={output}"])
    code = run_once(composition)
    return code, Made(run_directory(composition))


def assert_equal(resumed: Made, whole: Made) -> None:
    assert resumed.log("metrics.csv") == whole.log("metrics.csv")
    assert resumed.log("evaluation.csv") == whole.log("evaluation.csv")
    for mine, theirs in ((resumed.weights, whole.weights), (resumed.transitions, whole.transitions)):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            np.testing.assert_array_equal(value, theirs[name], err_msg=name)
    assert resumed.agent_state == whole.agent_state


STOCK, WORKERS = (
    ["hardware.backend=stock", "hardware.workers=1"],
    ["hardware.backend=stock", "hardware.workers=2"],
)
NATIVE = ["hardware.backend=native"]
NORMALISED = ["env.normalize_observations=true", "env.normalize_reward=true"]


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param([*NATIVE, "algo=sac"], id="sac-native", marks=pytest.mark.slow),
        pytest.param([*NATIVE, "algo=sac", *NORMALISED], id="sac-native-normalised", marks=pytest.mark.slow),
        pytest.param([*STOCK, "algo=sac", *NORMALISED], id="sac-stock-normalised"),
        pytest.param([*WORKERS, "algo=sac"], id="sac-workers", marks=pytest.mark.slow),
        pytest.param([*WORKERS, "algo=td3", *NORMALISED], id="td3-workers-normalised"),
        pytest.param(
            [*WORKERS, "algo=sac", *NORMALISED], id="sac-workers-normalised", marks=pytest.mark.slow
        ),
        pytest.param([*WORKERS, "algo=ddpg"], id="ddpg-workers", marks=pytest.mark.slow),
        pytest.param([*NATIVE, "algo=td3", *NORMALISED], id="td3-native-normalised", marks=pytest.mark.slow),
        pytest.param([*NATIVE, "algo=ddpg"], id="ddpg-native", marks=pytest.mark.slow),
        pytest.param([*NATIVE, "algo=td3", "variant=shared"], id="td3-native", marks=pytest.mark.slow),
        pytest.param([*STOCK, "algo=td3", "algo.n_steps=3"], id="td3-stock-n-steps", marks=pytest.mark.slow),
        pytest.param([*NATIVE, "algo=ddpg", "variant=plain", *NORMALISED], id="ddpg-native-normalised"),
        pytest.param([*STOCK, "algo=ddpg"], id="ddpg-stock", marks=pytest.mark.slow),
        pytest.param([*NATIVE, "algo=sac", "algo.overlap=true", "algo.updates=0.4"], id="sac-overlap"),
        pytest.param(
            [
                *NATIVE,
                "algo=sac",
                "algo.temperature=per_task",
                "algo.balanced_batches=true",
                "algo.reward_scaling=per_task",
                "algo.n_steps=3",
                "env.copies_per_task=2",
            ],
            id="sac-every-option",
        ),
        pytest.param(
            [*NATIVE, "algo=sac", "algo.cls=stable_baselines3.SAC", "variant=shared"],
            id="sb3-sac",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_continued_run_is_the_uninterrupted_one(tmp_path, monkeypatch, capsys, overrides):
    torch.set_num_threads(1)
    code, whole = start(tmp_path / "whole", *overrides)
    assert code == 0
    # In mid-episode before the first update, and where an evaluation is due.
    interrupt_at(monkeypatch, [26, 160])
    for expected in (143, 143, 0):
        code, resumed = start(tmp_path / "resumed", *overrides)
        assert code == expected
    starts = [entry["step"] for entry in json.loads(resumed.log("status.json"))["starts"]]
    assert starts[0] < starts[1] < starts[2]
    assert_equal(resumed, whole)


def test_a_run_with_the_compiled_layer_norm_of_an_earlier_version_is_refused(tmp_path, monkeypatch):
    overrides = [*NATIVE, "algo=sac", "variant.layer_norm=true"]
    interrupt_at(monkeypatch, [160])
    code, interrupted = start(tmp_path, *overrides)
    assert code == 143
    status = json.loads(interrupted.log("status.json"))
    status["hardware"]["layer_norm"] = "compiled"
    path = next(tmp_path.rglob("status.json"))
    path.write_text(json.dumps(status))
    with pytest.raises(ConfigurationError, match=r"continue it with mtrl 0\.1\.0"):
        start(tmp_path, *overrides)
    assert json.loads(path.read_text()) == status


SEQUENTIAL = ["curriculum=sequential", "curriculum.min_steps=60", "curriculum.thresholds=[0.0]"]


@pytest.mark.parametrize(
    ("overrides", "interruptions"),
    [
        pytest.param([*NATIVE, *SEQUENTIAL, "curriculum.replay=[all]"], [50, 110], id="all"),
        pytest.param(
            [*NATIVE, *SEQUENTIAL, "curriculum.replay=[none]"], [50, 110], id="none", marks=pytest.mark.slow
        ),
        pytest.param([*WORKERS, *SEQUENTIAL], [50, 110], id="workers", marks=pytest.mark.slow),
        # Each start of worker processes takes seconds: one interruption, in the second stage.
        pytest.param([*WORKERS, *SEQUENTIAL, "total_steps=120"], [110], id="workers-once"),
        # One copy plays both tasks in turn.
        pytest.param(
            [*NATIVE, "curriculum=adaptive", "curriculum.copies=1"], [50, 110], id="adaptive-one-copy"
        ),
    ],
)
def test_a_curriculum_goes_on_where_it_was(tmp_path, monkeypatch, capsys, overrides, interruptions):
    curriculum = [*overrides, "curriculum.check_every=40", "curriculum.check_episodes=1"]
    code, whole = start(tmp_path / "whole", *curriculum)
    assert code == 0
    interrupt_at(monkeypatch, interruptions)
    codes = [start(tmp_path / "resumed", *curriculum)[0] for _ in [*interruptions, "last"]]
    assert codes == [143] * len(interruptions) + [0]
    assert_equal(Made(whole.path.parents[3] / "resumed" / whole.path.relative_to(tmp_path / "whole")), whole)


def test_a_transfer_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    few = ["task=null", "env.tasks=[push-v3,reach-v3]", "total_steps=120"]
    source = start(tmp_path / "source", *NATIVE, *few)[1].path
    words = [
        *NATIVE,
        f"transfer.source={source}",
        "transfer.parts=[actor,critic,temperature,optimiser,replay]",
    ]
    # The actor is held still across both interruptions, the temperature until between them.
    words += ["transfer.freeze_steps.actor=180", "transfer.freeze_steps.temperature=100"]
    code, whole = start(tmp_path / "whole", *words)
    assert code == 0
    interrupt_at(monkeypatch, [26, 160])
    for expected in (143, 143, 0):
        code, resumed = start(tmp_path / "resumed", *words)
        assert code == expected
    assert_equal(resumed, whole)
    for name in ("lineage.json", "status.json"):
        mine, theirs = (json.loads(made.log(name)) for made in (resumed, whole))
        transfers = [found.get("transfer", found) for found in (mine, theirs)]
        assert transfers[0] == transfers[1]
    assert transfers[0]["transitions"] > 0


def test_a_larger_total_goes_on_and_a_smaller_one_is_done(tmp_path, capsys):
    code, made = start(tmp_path, *NATIVE, "total_steps=120")
    assert code == 0
    assert start(tmp_path, *NATIVE, "total_steps=240")[0] == 0
    status = json.loads(made.log("status.json"))
    assert (status["state"], status["step"], [entry["step"] for entry in status["starts"]]) == (
        "finished",
        240,
        [0, 120],
    )
    whole = start(tmp_path / "whole", *NATIVE)[1]
    assert made.log("metrics.csv") == whole.log("metrics.csv")
    for name, value in made.weights.items():
        np.testing.assert_array_equal(value, whole.weights[name], err_msg=name)
    before = (made.path / "status.json").stat().st_mtime_ns
    assert start(tmp_path, *NATIVE, "total_steps=100")[0] == 0
    assert "this run is finished" in capsys.readouterr().out
    assert (made.path / "status.json").stat().st_mtime_ns == before


def test_phases_are_calls_of_one_command(tmp_path, capsys):
    phases = [word for word in TINY if not word.startswith("total_steps=")]
    phases += [*NATIVE, "phases=[60,120,180]"]
    for phase, end in ((1, 60), (2, 120), (3, 180)):
        code, made = start(tmp_path, *phases, f"phase={phase}", tiny=())
        assert code == 0
        assert json.loads(made.log("status.json"))["step"] == end


def test_fresh_moves_the_earlier_run_aside(tmp_path, capsys):
    made = start(tmp_path, *NATIVE, "total_steps=60")[1]
    before = made.log("metrics.csv")
    assert start(tmp_path, *NATIVE, "total_steps=80", "fresh=true")[0] == 0
    aside = [path for path in made.path.parent.iterdir() if path != made.path]
    assert len(aside) == 1
    assert (aside[0] / "metrics.csv").read_text() == before
    assert json.loads(made.log("status.json"))["step"] == 80


@pytest.mark.parametrize(
    ("error", "code", "hint"),
    [
        (Preempted(15), 143, "; {command} continues the run"),
        (OSError(errno.ENOSPC, "no room"), 75, "; {command} tries again from the last checkpoint"),
    ],
)
def test_the_command_that_goes_on_with_a_fresh_run_is_named_without_fresh(
    tmp_path, monkeypatch, capsys, error, code, hint
):
    def end(*_):
        raise error

    monkeypatch.setattr("mtrl.train.train", end)
    for words, command in (
        ([], "the same command"),
        (["fresh=true"], "the same command without fresh=true"),
    ):
        assert start(tmp_path, *NATIVE, *words)[0] == code
        captured = capsys.readouterr()
        assert hint.format(command=command) in captured.out + captured.err


def test_another_configuration_in_the_directory_is_refused_with_the_differing_keys(tmp_path, capsys):
    made = start(tmp_path, *NATIVE, "total_steps=60")[1]
    config = yaml.safe_load(made.log("config.yaml"))
    config["algo"]["gamma"] = 0.5
    (made.path / "config.yaml").write_text(yaml.safe_dump(config))
    before = made.log("status.json")
    with pytest.raises(ConfigurationError, match=r"algo\.gamma \(0\.5 there, 0\.99 now\).*fresh=true"):
        start(tmp_path, *NATIVE)
    assert made.log("status.json") == before


def test_what_changed_since_the_last_start_is_said(tmp_path, capsys, caplog):
    made = start(tmp_path, *NATIVE, "total_steps=60")[1]
    config = yaml.safe_load(made.log("config.yaml"))
    del config["algo"]["tau"]
    (made.path / "config.yaml").write_text(yaml.safe_dump(config))
    manifest_path = made.newest / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    manifest["versions"]["torch"] = "1.0"
    manifest_path.write_text(json.dumps(sealed(manifest)))
    assert start(tmp_path, *NATIVE, "total_steps=80", "evaluation.every=50")[0] == 0
    said = capsys.readouterr().out
    assert "evaluation.every: 80 -> 50" in said
    assert "algo.tau" in caplog.text
    assert "torch was 1.0 at the last checkpoint" in caplog.text


def test_the_checkpoint_of_another_version_is_left_alone(tmp_path, capsys):
    made = start(tmp_path, *NATIVE, "total_steps=60")[1]
    manifest_path = made.newest / "manifest.json"
    manifest = json.loads(manifest_path.read_text()) | {"format": 99}
    manifest_path.write_text(json.dumps(sealed(manifest)))
    with pytest.raises(ConfigurationError, match="has the format 99 and this version of mtrl reads 1"):
        start(tmp_path, *NATIVE, "total_steps=80")
    assert made.newest.name == "step_60"


def without_a_section(checkpoint: Path) -> None:
    state = json.loads((checkpoint / "state.json").read_text())
    del state["evaluation"]
    (checkpoint / "state.json").write_text(json.dumps(state))


def without_a_key(checkpoint: Path) -> None:
    state = json.loads((checkpoint / "state.json").read_text())
    del state["agent"]["replay"]["dropped"]
    (checkpoint / "state.json").write_text(json.dumps(state))


def of_other_networks(checkpoint: Path) -> None:
    model = SAC("MlpPolicy", "Pendulum-v1", buffer_size=10, policy_kwargs={"net_arch": [4]}, device="cpu")
    model.save(checkpoint / "model.zip")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (without_a_section, "differ in the state of evaluation"),
        (without_a_key, "does not hold this run's state, KeyError"),
        (of_other_networks, "does not hold this agent's weights"),
    ],
)
def test_a_checkpoint_that_is_refused_leaves_the_directory_as_it_was(tmp_path, capsys, change, why):
    made = start(tmp_path, *NATIVE, "total_steps=60")[1]
    change(made.newest)
    manifest_path = made.newest / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    for name in manifest["files"]:
        file = made.newest / name
        manifest["files"][name] = {"size": file.stat().st_size, "sha256": sha256(file)}
    manifest_path.write_text(json.dumps(sealed(manifest)))

    def content() -> dict[Path, bytes]:
        files = (path for path in made.path.rglob("*") if path.is_file() and path.name != "run.lock")
        return {path: path.read_bytes() for path in files}

    before = content()
    assert start(tmp_path, *NATIVE, "total_steps=80")[0] == 2
    said = capsys.readouterr().err
    assert why in said
    assert "fresh=true, which moves the run directory aside" in said
    assert content() == before
    assert json.loads(made.log("status.json"))["state"] == "finished"


def test_a_total_below_what_was_done_ends_the_run_there(tmp_path, monkeypatch, capsys):
    interrupt_at(monkeypatch, [150])
    assert start(tmp_path, *NATIVE)[0] == 143
    code, made = start(tmp_path, *NATIVE, "total_steps=100")
    status = json.loads(made.log("status.json"))
    assert (code, status["state"], status["step"]) == (0, "finished", 150)
    assert start(tmp_path, *NATIVE)[0] == 0
    assert json.loads(made.log("status.json"))["step"] == 240


def test_signals_are_remembered_once_and_twice_means_now(monkeypatch):
    left = []
    monkeypatch.setattr("os._exit", left.append)
    with Signals() as signals:
        signals._handle(15, None)
        signals._handle(15, None)
        assert (signals.received, left) == (15, [])
        signals._handle(12, None)
        assert left == []
        signals._handle(2, None)
        assert left == [130]
