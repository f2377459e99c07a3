"""A full disk, damaged files and missing ones cost at most what was not saved, and are said."""

import errno
import json
import os
import shutil
import subprocess

import pytest
import tiny
from forked_runs import assert_same, forked, run_files
from tiny import TINY

from mtrl.errors import ConfigurationError, used_up
from mtrl.experiment import compose_run

NO_ROW = ("metrics.csv: rows wait to be written", "status.json waits to be written")


@pytest.mark.parametrize(
    ("size", "begin", "end", "said"),
    [
        pytest.param(4096, 60, 95, ["nothing could be saved"], id="a checkpoint"),
        pytest.param(64, 55, 65, NO_ROW, id="a row"),
        pytest.param(64, 75, 95, NO_ROW, id="an evaluation, a checkpoint, a row"),
    ],
)
def test_a_disk_that_is_full_for_a_while_is_waited_for_and_costs_no_row(
    whole, tmp_path, size, begin, end, said
):
    answer = forked(tmp_path, fault=lambda: tiny.limit_file_size(size, begin, end))
    assert all(words in answer.printed for words in said)
    left = run_files(tmp_path)
    for name in ("metrics.csv", "evaluation.csv"):
        assert left.text(name) == whole.text(name)
    assert left.text("timing.csv").count("\n") == whole.text("timing.csv").count("\n")
    assert_same(left, whole)
    assert left.status()["state"] == "finished"
    assert not list(left.path.rglob(".*"))


@pytest.mark.parametrize("size", [4096, 64], ids=["of checkpoints", "of rows"])
def test_a_disk_that_stays_full_ends_the_run_with_whole_files(whole, tmp_path, size):
    answer = forked(tmp_path, fault=lambda: tiny.limit_file_size(size, 100, 10_000), code=75)
    left = run_files(tmp_path)
    assert "make room on the disk" in answer.printed
    assert "Traceback" not in answer.printed
    assert left.verify() == 80
    assert not list(left.path.rglob(".*"))
    assert whole.text("metrics.csv").startswith(left.text("metrics.csv"))
    if size == 64:
        # At 120, 150 and 180 steps nothing could be written.
        kept = [line.split(",")[0] for line in left.text("metrics.csv").splitlines()]
        assert kept == ["step", "30", "60", "90"]
        assert left.status()["step"] == 90
    forked(tmp_path)
    assert_same(left, whole)


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk"),
        (OSError(errno.EMFILE, "Too many open files"), "open files"),
        (ImportError("libx.so: cannot open shared object file: Too many open files"), "open files"),
        (MemoryError(), "memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "memory"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "threads and processes"),
        (RuntimeError("can't start new thread"), "threads and processes"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), None),
        (KeyError("memory"), None),
    ],
)
def test_what_is_used_up_is_told_from_bugs(error, what):
    assert used_up(error) == what


def test_memory_that_runs_out_costs_what_was_not_saved(whole, tmp_path):
    def run_out(model):
        raise MemoryError

    answer, left = forked(tmp_path, fault=lambda: tiny.at_step(130, run_out), code=75), run_files(tmp_path)
    assert "mtrl: there is no more memory (MemoryError()); the same command tries again" in answer.printed
    assert "Traceback" not in answer.printed
    assert (left.status()["state"], left.verify()) == ("interrupted", 120)
    forked(tmp_path)
    assert_same(left, whole)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
def test_a_small_file_system_that_fills_up(whole, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        forked(disk, code=75)
        left = run_files(disk)
        left.verify()
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        forked(disk)
        assert_same(left, whole)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_file_in_the_place_of_a_directory_is_refused_before_the_first_step(tmp_path):
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(ConfigurationError, match=r"output=.* cannot be written \(Not a directory\)"):
        compose_run([*TINY, f"output={tmp_path / 'outputs' / 'runs'}"])


NAMES, DAMAGES = (
    ["model.zip", "state.json", "state.npz", "manifest.json", "segment"],
    ["flip", "cut", "remove"],
)


def damaged(path, damage):
    content = path.read_bytes()
    half = len(content) // 2
    path.unlink()
    if damage != "remove":
        rest = bytes([content[half] ^ 1]) + content[half + 1 :]
        path.write_bytes(content[:half] + (rest if damage == "flip" else b""))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        # Every file and every damage.
        pytest.param(name, damage, marks=[] if (i - k) % 3 == 0 else pytest.mark.slow)
        for i, name in enumerate(NAMES)
        for k, damage in enumerate(DAMAGES)
    ],
)
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_taken(whole, halfway, name, damage):
    newest, before = halfway.checkpoints[-1], halfway.checkpoints[-2]
    segments = json.loads((newest / "manifest.json").read_text())["segments"]
    segment = f"seg_{segments[-1]['low']}_{segments[-1]['high']}.npz"
    damaged(halfway.path / "buffer" / segment if name == "segment" else newest / name, damage)
    answer = forked(halfway.output)
    said = f"{newest.name} is put aside"
    assert said in answer.printed
    assert said in halfway.text("run.log")
    assert halfway.status()["starts"][-1]["step"] == int(before.name.removeprefix("step_"))
    assert_same(halfway, whole)


def test_without_a_whole_checkpoint_nothing_is_started_anew(halfway):
    for path in halfway.checkpoints:
        damaged(path / "state.npz", "flip")
    before = halfway.text("metrics.csv")
    answer = forked(halfway.output, code=2)
    assert "no checkpoint" in answer.printed
    assert "fresh=true" in answer.printed
    # Nor the second time, when the damaged ones are aside.
    forked(halfway.output, code=2)
    assert halfway.text("metrics.csv") == before


@pytest.mark.parametrize(
    ("name", "mode", "text"),
    [
        *((name, "w", "{") for name in ("config.yaml", "status.json", "environment.json")),
        pytest.param("metrics.csv", "a", "180,22,0.1\n190,2", id="rows past the checkpoint and a torn one"),
    ],
)
def test_damaged_descriptions_and_rows_are_written_anew(whole, halfway, name, mode, text):
    with (halfway.path / name).open(mode) as file:
        file.write(text)
    forked(halfway.output)
    assert_same(halfway, whole)


def test_checkpoints_that_were_removed_are_not_a_new_run(halfway):
    shutil.rmtree(halfway.path / "checkpoints")
    answer = forked(halfway.output, code=2)
    assert "are gone" in answer.printed
