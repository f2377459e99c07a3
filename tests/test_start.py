"""What a command does with its run directory: begin a run, continue it, print its result, or refuse."""

import errno
import json

import numpy as np
import pytest
import tiny
import yaml
from forked_runs import run_here as start
from stable_baselines3 import SAC
from tiny import TINY, interrupt_at

from mtrl.errors import ConfigurationError, Preempted
from mtrl.experiment import compose_run
from mtrl.rundir.models import facts_of, sealed
from mtrl.training import resume


@pytest.fixture(autouse=True)
def _light_environment(monkeypatch):
    tiny.use_tiny_environment(monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as monkeypatch:
        tiny.use_tiny_environment(monkeypatch)
        code, run = start(output, "total_steps=60")
    assert code == 0
    return run


@pytest.fixture
def run(finished, tmp_path):
    """A run that finished after 60 steps."""
    return finished.copied_to(tmp_path)


def test_a_larger_total_continues_and_a_smaller_one_is_finished(run, tmp_path, capsys):
    assert start(tmp_path, "total_steps=240")[0] == 0
    status = run.status()
    assert (status["state"], status["step"]) == ("finished", 240)
    assert [entry["step"] for entry in status["starts"]] == [0, 60]
    code, whole = start(tmp_path / "whole", "total_steps=240")
    assert code == 0
    assert run.text("metrics.csv") == whole.text("metrics.csv")
    mine, theirs = run.everything(), whole.everything()
    weights = [name for name in theirs if name.startswith("weights")]
    assert weights
    assert all(np.array_equal(mine[name], theirs[name]) for name in weights)

    before = (run.path / "status.json").stat().st_mtime_ns
    assert start(tmp_path, "total_steps=100")[0] == 0
    assert "this run is finished" in capsys.readouterr().out
    assert (run.path / "status.json").stat().st_mtime_ns == before


def test_a_total_below_what_was_done_ends_the_run_there(tmp_path, monkeypatch):
    interrupt_at(monkeypatch, [150])
    assert start(tmp_path)[0] == 143
    code, run = start(tmp_path, "total_steps=100")
    assert (code, run.status()["state"], run.status()["step"]) == (0, "finished", 150)
    assert start(tmp_path)[0] == 0
    assert run.status()["step"] == 240


def test_a_run_that_success_ended_continues_when_more_success_is_asked_for(tmp_path):
    words = ("total_steps=200", "evaluation.every=50")
    for success, step in (("0", 50), ("0", 50), ("1", 200)):
        code, run = start(tmp_path, *words, f"stop.success={success}")
        assert (code, run.status()["state"], run.status()["step"]) == (0, "finished", step)


def test_phases_are_calls_of_one_command(tmp_path):
    base = [words for words in TINY if not words.startswith("total_steps=")]
    for phase, end in ((1, 60), (2, 120), (3, 180)):
        code, run = start(tmp_path, "phases=[60,120,180]", f"phase={phase}", base=base)
        assert (code, run.status()["step"]) == (0, end)


def test_fresh_moves_the_earlier_run_aside(run, tmp_path):
    before = run.text("metrics.csv")
    assert start(tmp_path, "total_steps=80", "fresh=true")[0] == 0
    (aside,) = (path for path in run.path.parent.iterdir() if path != run.path)
    assert (aside / "metrics.csv").read_text() == before
    assert run.status()["step"] == 80


@pytest.mark.parametrize(
    ("error", "code", "hint"),
    [
        (Preempted(15), 143, "; {command} continues the run"),
        (OSError(errno.ENOSPC, "no room"), 75, "; {command} tries again from the last checkpoint"),
    ],
)
def test_the_command_that_continues_a_fresh_run_is_named_without_fresh(
    tmp_path, monkeypatch, capsys, error, code, hint
):
    def end(*_):
        raise error

    monkeypatch.setattr("mtrl.train.train", end)
    for words, without in (([], ""), (["fresh=true"], " without fresh=true")):
        assert start(tmp_path, *words)[0] == code
        captured = capsys.readouterr()
        assert hint.format(command=f"the same command{without}") in captured.out + captured.err


def test_another_configuration_in_the_directory_is_refused_with_the_differing_keys(run, tmp_path):
    config = yaml.safe_load(run.text("config.yaml"))
    config["algo"]["gamma"] = 0.5
    (run.path / "config.yaml").write_text(yaml.safe_dump(config))
    before = run.text("status.json")
    with pytest.raises(ConfigurationError, match=r"algo\.gamma \(0\.5 there, 0\.99 now\).*fresh=true"):
        start(tmp_path)
    assert run.text("status.json") == before


def change_manifest(checkpoint, **entries):
    path = checkpoint / "manifest.json"
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | entries)))


def test_changes_since_the_last_start_are_printed(run, tmp_path, capsys, caplog):
    config = yaml.safe_load(run.text("config.yaml"))
    del config["algo"]["tau"]
    (run.path / "config.yaml").write_text(yaml.safe_dump(config))
    manifest = json.loads((run.checkpoints[-1] / "manifest.json").read_text())
    change_manifest(run.checkpoints[-1], versions=manifest["versions"] | {"torch": "1.0"})
    assert start(tmp_path, "total_steps=80", "evaluation.every=50")[0] == 0
    assert "evaluation.every: 80 -> 50" in capsys.readouterr().out
    assert "algo.tau" in caplog.text
    assert "torch was 1.0 at the last checkpoint" in caplog.text


def test_the_checkpoint_of_another_version_is_left_alone(run, tmp_path):
    change_manifest(run.checkpoints[-1], format=99)
    with pytest.raises(ConfigurationError, match="has the format 99 and this version of mtrl reads 1"):
        start(tmp_path, "total_steps=80")
    assert run.checkpoints[-1].name == "step_60"


def without(*keys):
    def change(checkpoint):
        state = at = json.loads((checkpoint / "state.json").read_text())
        for key in keys[:-1]:
            at = at[key]
        del at[keys[-1]]
        (checkpoint / "state.json").write_text(json.dumps(state))

    return change


def of_other_networks(checkpoint):
    model = SAC("MlpPolicy", "Pendulum-v1", buffer_size=10, policy_kwargs={"net_arch": [4]}, device="cpu")
    model.save(checkpoint / "model.zip")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (without("evaluation"), "differ in the state of evaluation"),
        (without("agent", "replay", "dropped"), "does not hold this run's state, KeyError"),
        (of_other_networks, "does not hold this agent's weights"),
    ],
)
def test_a_checkpoint_that_is_refused_leaves_the_directory_as_it_was(run, tmp_path, capsys, change, why):
    newest = run.checkpoints[-1]
    change(newest)
    names = json.loads((newest / "manifest.json").read_text())["files"]
    change_manifest(newest, files={name: facts_of(newest / name) for name in names})

    def content():
        files = (path for path in run.path.rglob("*") if path.is_file() and path.name != "run.lock")
        return {path: path.read_bytes() for path in files}

    before = content()
    assert start(tmp_path, "total_steps=80")[0] == 2
    errors = capsys.readouterr().err
    assert why in errors
    assert "fresh=true, which moves the run directory aside" in errors
    assert content() == before
    assert run.status()["state"] == "finished"


NATIVE = r"holds native environments, which stock ones cannot continue: use hardware\.backend=native"
COMPILED = {"layer_norm": "compiled"}, ["variant.layer_norm=true"], r"continue it with mtrl 0\.1\.0"


@pytest.mark.parametrize(
    ("hardware", "overrides", "message"), [({"backend": "native"}, [], NATIVE), COMPILED]
)
def test_a_run_is_not_continued_on_other_hardware_choices(tmp_path, hardware, overrides, message):
    code, run = start(tmp_path, *overrides, "total_steps=60")
    assert code == 0
    status = run.status()
    status["hardware"] |= hardware
    # As version 0.1.0 wrote it; later ones have the choices in the checkpoint.
    change_manifest(run.checkpoints[-1], hardware={})
    (run.path / "status.json").write_text(json.dumps(status))
    with pytest.raises(ConfigurationError, match=message):
        start(tmp_path, *overrides)
    assert run.status() == status


@pytest.mark.parametrize(
    ("asked", "there", "gpu", "expected"),
    [
        ("compile=auto", {"device": "cpu", "compile": "inductor"}, True, {"compile": "inductor"}),
        ("compile=auto", {"device": "cuda", "compile": "off"}, True, {"compile": "off"}),
        ("compile=auto", {"device": "cuda", "compile": "cuda_graph"}, False, {"compile": "auto"}),
        ("compile=auto", {"device": "cuda"}, True, {"compile": "auto"}),
        ("compile=off", {"device": "cpu", "compile": "inductor"}, True, {"compile": "off"}),
        ("device=cpu", {"device": "cuda", "compile": "cuda_graph"}, False, {"compile": "auto"}),
        ("backend=auto", {"backend": "stock", "workers": 2}, False, {"backend": "stock", "workers": 2}),
    ],
)
def test_hardware_is_reused_where_it_is_the_same(monkeypatch, asked, there, gpu, expected):
    monkeypatch.setattr(resume, "cuda_available", lambda device: gpu)
    hardware = compose_run([f"hardware.{asked}"]).config.hardware
    reused = resume.reuse_hardware(hardware, there)
    assert {name: getattr(reused, name) for name in expected} == expected
