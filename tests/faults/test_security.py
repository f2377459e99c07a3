"""Opening somebody else's run runs no code, whatever file of it a payload is planted in."""

import contextlib
import json
import os
import shutil
import subprocess
import time
import tracemalloc
import zipfile
from functools import partial

import cloudpickle
import numpy as np
import pytest
import tiny
import torch
import yaml
from forked_runs import SECRET, forked, run_files
from payloads import Payload, plant_in_data, rewrite_zip
from saved_runs import save_run
from tiny import TINY

import mtrl
from mtrl import status
from mtrl.checkpoint.model import read_weights
from mtrl.checkpoint.state import read_arrays
from mtrl.errors import ConfigurationError, DamagedError, LoadError
from mtrl.evaluation.__main__ import main as evaluation
from mtrl.experiment import compose_run
from mtrl.packages import installed
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


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("saved"), "experiment=mt1", "env.normalize_observations=true")


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


def sparse(path, size=20 * 2**30):
    """Give a file that many bytes, which take no room on the disk."""
    with path.open("ab") as file:
        file.truncate(size)


def before_the_zip(path):
    content = path.read_bytes()
    path.write_bytes(b"")
    sparse(path)
    with path.open("ab") as file:
        file.write(content)


def zeros(path):
    path.unlink()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("policy.pth", "w") as file:
        for _ in range(20):
            file.write(bytes(2**24))


def edited(key, value, path):
    config = yaml.safe_load(path.read_text())
    group, _, name = key.rpartition(".")
    (config[group] if group else config)[name] = value
    path.write_text(yaml.safe_dump(config))


MODEL = "checkpoints/best/model.zip"
LARGE = {
    "zip of zeros": (MODEL, zeros, "compressed"),
    "sparse before the zip": (MODEL, before_the_zip, "compressed or empty"),
    "sparse zip": (MODEL, sparse, "cannot be read"),
    "sparse normaliser": ("checkpoints/best/normaliser.npz", sparse, "normaliser.npz"),
    "sparse score": ("checkpoints/best/score.json", sparse, None),
    "sparse status": ("status.json", sparse, None),
    "sparse log": ("evaluation.csv", sparse, None),
    "sparse configuration": ("config.yaml", sparse, "config.yaml cannot be read .*20480.0 MiB"),
    "tasks": (
        "config.yaml",
        partial(edited, "env.tasks", ["reach-v3"] * 100_000),
        "config.yaml cannot be read",
    ),
    "fewer tasks": ("config.yaml", partial(edited, "env.tasks", ["reach-v3"] * 9_000), "stands twice"),
    "layers": (
        "config.yaml",
        partial(edited, "variant.actor_layers", [2**14] * 40),
        "does not hold its weights",
    ),
    "small layers": (
        "config.yaml",
        partial(edited, "variant.actor_layers", [1] * 20_000),
        "does not hold its",
    ),
    "class": ("config.yaml", partial(edited, "algo.cls", "mtrl" + ".a" * 2000), "a class is only taken from"),
    "dots": ("config.yaml", partial(edited, "algo.cls", "mtrl" + "." * 2000), "a class is only taken from"),
}


@pytest.mark.parametrize("what", LARGE)
def test_what_is_large_is_refused_before_it_is_read(saved, tmp_path, capsys, what):
    run = shutil.copytree(saved, tmp_path / "run")
    name, put, sentence = LARGE[what]
    put(run / name)
    tracemalloc.start()
    began = time.process_time()
    with contextlib.nullcontext() if sentence is None else pytest.raises(LoadError, match=sentence):
        mtrl.load(run)
    if not name.startswith("checkpoints"):
        status.main([str(run)])
        report([str(run), "--out", str(tmp_path / "report")])
    taken, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Tracing makes all this several times slower than it is.
    assert taken < 10
    assert peak < 2**28


def test_folders_in_folders_and_values_in_values_end_no_command(saved, tmp_path, monkeypatch, capsys):
    run = shutil.copytree(saved, tmp_path / "runs" / "run")
    for name in ("status.json", "environment.json"):
        (run / name).write_text('{"starts": ' * 900 + "1" + "}" * 900)
    monkeypatch.chdir(tmp_path / "runs")
    for _ in range(1500):
        os.mkdir("a")
        os.chdir("a")
    monkeypatch.chdir(tmp_path)
    for command in (status.main, report):
        assert command(["runs"]) == 0
        assert "status.json cannot be read (it is nested too deeply)" in capsys.readouterr().err
    subprocess.run(["rm", "-r", "runs"], check=True)


def test_no_package_is_taken_from_the_working_directory(saved, tmp_path, monkeypatch):
    run, marker = shutil.copytree(saved, tmp_path / "run"), tmp_path / "executed"
    planted = f"open({str(marker)!r}, 'w')\nclass Evil: pass"
    (tmp_path / "sb3_contrib").mkdir()
    (tmp_path / "sb3_contrib" / "__init__.py").write_text(planted)
    (tmp_path / "optional.py").write_text(planted)
    (tmp_path / "folder").mkdir()
    edited("algo.cls", "sb3_contrib.Evil", run / "config.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    with pytest.raises(LoadError, match=r"sb3_contrib\.Evil, which is gone"):
        mtrl.load(run)
    assert not any(map(installed, ("sb3_contrib", "optional", "folder", "nothing")))
    assert installed("numpy")
    assert not marker.exists()


def test_a_video_is_written_through_no_link_of_a_run(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mtrl.play.choose_graphics", lambda: "egl")
    run, precious = shutil.copytree(saved, tmp_path / "run"), tmp_path / "precious"
    for make in (lambda path: path.symlink_to(precious), os.mkfifo):
        make(run / "play.mp4")
        assert play([str(run)]) == 2
        assert "play.mp4 is no plain file" in capsys.readouterr().err
        (run / "play.mp4").unlink()
    assert not precious.exists()


def test_variables_of_the_environment_are_written_nowhere(whole):
    for path in whole.path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
