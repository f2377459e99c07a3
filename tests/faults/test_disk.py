"""A full disk, damaged files and missing ones cost at most what was not saved, and are said."""

import json
import os
import subprocess

import pytest
from forked_runs import assert_same, run_files


def test_a_disk_that_is_full_for_a_while_is_waited_for(server, whole, tmp_path):
    answer = server.run(tmp_path, call=["limit_file_size", [4096, 60, 95]])
    assert "nothing could be saved" in answer["printed"]
    left = run_files(tmp_path)
    assert_same(left, whole)
    assert not list(left.path.rglob(".tmp-*"))


def test_a_disk_that_stays_full_ends_the_run_with_its_checkpoints_intact(server, whole, tmp_path):
    answer = server.run(tmp_path, call=["limit_file_size", [4096, 100, 10_000]], code=75)
    left = run_files(tmp_path)
    assert "make room on the disk" in answer["printed"]
    assert left.verify() == 80
    assert not list(left.path.rglob(".tmp-*"))
    server.run(tmp_path)
    assert_same(left, whole)


@pytest.mark.parametrize(
    ("begin", "end"), [(55, 65), (75, 95)], ids=["a row", "an evaluation, a checkpoint, a row"]
)
def test_a_disk_without_room_for_a_row_is_waited_for_and_costs_no_row(server, whole, tmp_path, begin, end):
    answer = server.run(tmp_path, call=["limit_file_size", [64, begin, end]])
    assert "metrics.csv: rows wait to be written" in answer["printed"]
    assert "status.json waits to be written" in answer["printed"]
    left = run_files(tmp_path)
    for name in ("metrics.csv", "evaluation.csv"):
        assert left.text(name) == whole.text(name)
    assert left.text("timing.csv").count("\n") == whole.text("timing.csv").count("\n")
    assert_same(left, whole)
    assert left.status()["state"] == "finished"
    assert not list(left.path.glob(".*"))


def test_a_disk_that_never_has_room_for_a_row_again_ends_the_run_with_whole_files(server, whole, tmp_path):
    answer = server.run(tmp_path, call=["limit_file_size", [64, 100, 10_000]], code=75)
    left = run_files(tmp_path)
    assert "make room on the disk" in answer["printed"]
    assert "Traceback" not in answer["printed"]
    assert left.verify() == 80
    # At 120, 150 and 180 steps nothing could be written.
    kept = [line.split(",")[0] for line in left.text("metrics.csv").splitlines()]
    assert kept == ["step", "30", "60", "90"]
    assert whole.text("metrics.csv").startswith(left.text("metrics.csv"))
    assert left.status()["step"] == 90
    assert not list(left.path.glob(".*"))
    server.run(tmp_path)
    assert_same(left, whole)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
def test_a_small_file_system_that_fills_up(server, whole, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        server.run(disk, code=75)
        left = run_files(disk)
        left.verify()
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        server.run(disk)
        assert_same(left, whole)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_file_in_the_place_of_a_directory_is_refused_before_the_first_step(server, tmp_path):
    (tmp_path / "outputs").write_text("a file")
    answer = server.run(tmp_path / "outputs" / "runs", code=2)
    assert "output=" in answer["printed"]


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove(path):
    path.unlink()


NAMES = ["model.zip", "state.json", "state.npz", "manifest.json", "segment"]


@pytest.mark.parametrize(("name", "damage"), [*zip(NAMES, [flip, cut, remove, flip, cut], strict=True)])
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_taken(server, whole, halfway, name, damage):
    newest, before = halfway.checkpoints[-1], halfway.checkpoints[-2]
    segments = json.loads((newest / "manifest.json").read_text())["segments"]
    segment = f"seg_{segments[-1]['low']}_{segments[-1]['high']}.npz"
    damage(halfway.path / "buffer" / segment if name == "segment" else newest / name)
    answer = server.run(halfway.output)
    said = f"checkpoint {newest.name} is put aside"
    assert said in answer["printed"]
    assert said in halfway.text("run.log")
    assert halfway.status()["starts"][-1]["step"] == int(before.name.removeprefix("step_"))
    assert_same(halfway, whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", [flip, cut, remove])
def test_every_damage_to_every_file(server, whole, halfway, name, damage):
    test_a_damaged_checkpoint_is_put_aside_and_the_one_before_taken(server, whole, halfway, name, damage)


def test_without_a_whole_checkpoint_nothing_is_started_anew(server, halfway):
    for path in halfway.checkpoints:
        flip(path / "state.npz")
    before = halfway.text("metrics.csv")
    answer = server.run(halfway.output, code=2)
    assert "no checkpoint" in answer["printed"]
    assert "fresh=true" in answer["printed"]
    # Nor the second time, when the damaged ones are aside.
    server.run(halfway.output, code=2)
    assert halfway.text("metrics.csv") == before


@pytest.mark.parametrize("name", ["config.yaml", "status.json", "environment.json"])
def test_damaged_descriptions_are_written_anew(server, whole, halfway, name):
    (halfway.path / name).write_text("{")
    server.run(halfway.output)
    assert_same(halfway, whole)


def test_a_torn_line_and_rows_past_the_checkpoint_are_made_again(server, whole, halfway):
    with (halfway.path / "metrics.csv").open("a") as file:
        file.write("180,22,0.1\n190,2")
    server.run(halfway.output)
    assert_same(halfway, whole)
