"""Opening somebody else's run runs no code, whatever file of it a payload is planted in."""

import contextlib
import json
import zipfile
from functools import partial

import cloudpickle
import numpy as np
import pytest
import tiny
import torch
from forked_runs import SECRET, forked, run_files
from payloads import Payload, plant_in_data, rewrite_zip
from tiny import TINY

import mtrl
from mtrl import status
from mtrl.checkpoint.model import read_weights
from mtrl.checkpoint.state import read_arrays
from mtrl.errors import ConfigurationError, DamagedError, LoadError
from mtrl.evaluation.__main__ import main as evaluation
from mtrl.experiment import compose_run
from mtrl.play import main as play
from mtrl.report.__main__ import main as report
from mtrl.rundir.models import facts_of, sealed
from mtrl.start import run_one
from mtrl.transfer.start import Transfer

MORE = ["env.normalize_observations=true"]


def plant_in_tensors(entry, path, payload):
    with zipfile.ZipFile(path) as archive:
        assert entry in archive.namelist()
    saved = path.with_name("payload")
    torch.save({"weight": payload}, saved)
    rewrite_zip(path, {entry: saved.read_bytes()})
    saved.unlink()


def plant_in_arrays(path, payload):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    first = next(iter(arrays))
    np.savez(path, **(arrays | {first: np.array([payload], dtype=object)}))


def plant_in_yaml(path, payload):
    path.write_text(f"seed: !!python/object/apply:os.mkdir ['{payload.marker}']\n" + path.read_text())


def reseal(run):
    """Make every manifest right again, as who plants something would."""
    for manifest_path in run.glob("checkpoints/step_*/manifest.json"):
        manifest = json.loads(manifest_path.read_text())
        for name in manifest["files"]:
            manifest["files"][name] = facts_of(manifest_path.with_name(name))
        for segment in manifest["segments"]:
            segment |= facts_of(run / "buffer" / f"seg_{segment['low']}_{segment['high']}.npz")
        manifest_path.write_text(json.dumps(sealed(manifest)))


PLANTS = {
    "model-data": ("checkpoints/*/model.zip", plant_in_data),
    "model-weights": ("checkpoints/*/model.zip", partial(plant_in_tensors, "policy.pth")),
    "model-optimiser": ("checkpoints/*/model.zip", partial(plant_in_tensors, "critic.optimizer.pth")),
    "state": ("checkpoints/*/state.npz", plant_in_arrays),
    "normaliser": ("checkpoints/*/normaliser.npz", plant_in_arrays),
    "segments": ("buffer/*.npz", plant_in_arrays),
    "config": ("config.yaml", plant_in_yaml),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("finished")
    forked(output, *MORE, "total_steps=120")
    return run_files(output, *MORE)


@pytest.fixture
def copy(finished, tmp_path, monkeypatch):
    """Return a function that copies the run into a folder; nothing can simulate but the tiny environment of a run."""
    tiny.use_tiny_environment(monkeypatch)
    return lambda folder=tmp_path: finished.copied_to(folder).path


def begin_transfer(run, output):
    words = [f"transfer.source={run}", f"output={output / 'new'}"]
    return Transfer(compose_run([*TINY, "total_steps=20", *words]).config)


def continue_run(output):
    return run_one(compose_run([*TINY, *MORE, "total_steps=140", f"output={output}"]))


@pytest.mark.parametrize("plant", PLANTS)
def test_no_command_runs_a_payload(copy, tmp_path, capsys, plant):
    run, marker = copy(), tmp_path / "executed"
    pattern, put = PLANTS[plant]
    for path in run.glob(pattern):
        put(path, Payload(marker))
    reseal(run)
    code = 2
    with contextlib.suppress(ConfigurationError):
        code = continue_run(tmp_path)
    # What only weights and statistics are read from may be used; nothing else of it is.
    assert code == (0 if plant in ("model-data", "normaliser", "config") else 2)
    assert not marker.exists()
    status.main([str(run)])
    for source in (run, run / "checkpoints" / "step_120"):
        with contextlib.suppress(LoadError):
            mtrl.load(source)
    with contextlib.suppress(ConfigurationError):
        begin_transfer(run, tmp_path)
    report([str(run), "--out", str(tmp_path / "report.html")])
    assert not marker.exists()


@pytest.mark.parametrize("command", [evaluation, play], ids=["evaluation", "play"])
def test_no_command_that_plays_runs_a_payload(copy, tmp_path, capsys, command):
    run, marker = copy(), tmp_path / "executed"
    for path in run.glob("checkpoints/*/model.zip"):
        plant_in_tensors("policy.pth", path, Payload(marker))
    reseal(run)
    assert command([str(run)]) == 2
    assert "model.zip" in capsys.readouterr().err
    assert not marker.exists()


@pytest.mark.slow
def test_no_file_of_a_run_is_unpickled_whatever_its_name(finished, copy, tmp_path, capsys):
    marker = tmp_path / "executed"
    content = cloudpickle.dumps(Payload(marker))
    files = sorted(path.relative_to(finished.path) for path in finished.path.rglob("*") if path.is_file())
    assert len(files) > 15
    for number, name in enumerate(files):
        output = tmp_path / str(number)
        run = copy(output)
        (run / name).write_bytes(content)
        with contextlib.suppress(ValueError):
            reseal(run)
        for command in (status.main, report, evaluation, play):
            # TypeError: there is nothing to simulate with, so the command has read all that it reads.
            with contextlib.suppress(LoadError, TypeError):
                command([str(run)])
        for start in (partial(begin_transfer, run), continue_run):
            with contextlib.suppress(ConfigurationError):
                start(output)
        assert not marker.exists(), name


@pytest.mark.parametrize("name", ["../../secret", "/etc/hostname", "link"])
def test_a_manifest_reaches_nothing_outside_its_directory(tmp_path, finished, name):
    run = finished.copied_to(tmp_path).path
    (run / "secret").write_text("secret")
    for path in run.glob("checkpoints/step_*/manifest.json"):
        if name == "link":
            path.with_name("link").symlink_to(run / "secret")
        manifest = json.loads(path.read_text())
        manifest["files"][name] = facts_of(run / "secret")
        path.write_text(json.dumps(sealed(manifest)))
    said = "is a link" if name == "link" else "is missing"
    assert said in forked(tmp_path, *MORE, "total_steps=140", code=2).printed


def test_arrays_are_no_larger_than_their_files(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("a.npy", "w") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
        )
    with pytest.raises(DamagedError, match="claims"):
        read_arrays(path)
    np.savez_compressed(path, a=np.zeros(10**6))
    with pytest.raises(DamagedError, match="compressed"):
        read_arrays(path)


@pytest.mark.parametrize("inside", [False, True], ids=["model", "tensors"])
def test_weights_are_no_larger_than_their_file(finished, tmp_path, inside):
    run = finished.copied_to(tmp_path).path
    model, tensors = run / "checkpoints" / "best" / "model.zip", tmp_path / "tensors"
    torch.save({"actor.mu.weight": torch.zeros(2**22)}, tensors)
    if inside:
        with zipfile.ZipFile(tensors) as archive:
            names = archive.namelist()
        rewrite_zip(tensors, {}, names)
    rewrite_zip(model, {"policy.pth": tensors.read_bytes()}, () if inside else ["policy.pth"])
    assert model.stat().st_size < 2**24 / 20

    with pytest.raises(DamagedError, match="compressed"):
        read_weights(model)
    with pytest.raises(LoadError, match="compressed"):
        mtrl.load(run)
    with pytest.raises(ConfigurationError, match="compressed"):
        begin_transfer(run, tmp_path)


def test_variables_of_the_environment_are_written_nowhere(whole):
    for path in whole.path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
