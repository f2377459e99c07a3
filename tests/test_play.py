"""``python -m mtrl.play``: a video of all tasks, the right way up, with what happens written below each."""

import os
import shutil

import numpy as np
import pytest
from saved_runs import of_version, save_run, with_last
from tiny_runs import REPOSITORY, python

from mtrl import play
from mtrl.env import camera as graphics
from mtrl.env.camera import choose_graphics
from mtrl.errors import ConfigurationError, EncoderError, NoGraphicsError
from mtrl.play import Tile, grid, main, write_mp4


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    tasks = "env.tasks=[drawer-close-v3,reach-v3]"
    return save_run(tmp_path_factory.mktemp("saved"), "experiment=mt3", tasks, "evaluation.horizon=40")


@pytest.fixture
def copy(saved, tmp_path):
    """Return a copy of the run that may be changed."""
    return shutil.copytree(saved, tmp_path / "run")


@pytest.mark.parametrize(("given", "draws"), [("glfw", "glfw"), ("", "osmesa")])
def test_the_graphics_that_draw_are_chosen_and_a_choice_of_the_users_is_left_alone(monkeypatch, given, draws):
    monkeypatch.setenv("MUJOCO_GL", given)
    monkeypatch.setattr(graphics, "_TRY", f"import os, sys; sys.exit(os.environ['MUJOCO_GL'] != '{draws}')")
    assert choose_graphics() == os.environ["MUJOCO_GL"] == draws
    monkeypatch.setattr(graphics, "_TRY", "raise SystemExit(1)")
    monkeypatch.setenv("MUJOCO_GL", "")
    with pytest.raises(NoGraphicsError, match=r"apt-get install libegl1.*libosmesa6"):
        choose_graphics()


@pytest.mark.parametrize("chosen", ["glfw", "osmesa", "banana"])
def test_what_is_chosen_and_does_not_draw_is_one_sentence(chosen, tmp_path):
    # No screen, no library of OSMesa, no such OpenGL.
    variables = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "MUJOCO_GL": chosen, "cwd": tmp_path}
    if chosen == "osmesa" and not python("-c", graphics._TRY, **variables).returncode:
        pytest.skip("OSMesa draws here")
    result = python("-m", "mtrl.play", "run", **variables)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert f"MUJOCO_GL={chosen} cannot draw here: unset it" in line


def test_a_missing_package_or_encoder_or_run_is_one_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(graphics, "_TRY", "pass")
    assert main([str(tmp_path / "nowhere")]) == 2
    monkeypatch.setattr(play, "installed", lambda name: False)
    assert main([str(tmp_path / "nowhere")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "nowhere does not exist" in lines[0]
    assert "imageio, imageio-ffmpeg, pillow is missing" in lines[1]


def test_of_encoder_and_place_the_one_that_does_not_work_is_named(monkeypatch, tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    pictures = [np.zeros((64, 64, 3), np.uint8)] * 300
    for encoder in ("/bin/false", "/bin/true", "/nonexist"):
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", encoder)
        with pytest.raises(EncoderError, match=f"the video encoder {encoder} does not work"):
            write_mp4(pictures, tmp_path / "a.mp4", 20)
    # Its own error where it finds none.
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: exec("raise RuntimeError"))
    with pytest.raises(EncoderError, match="no video encoder"):
        write_mp4([], tmp_path / "a.mp4", 20)
    assert not (tmp_path / "a.mp4").exists()
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "a.mp4", tmp_path):
        with pytest.raises(ConfigurationError, match=r"cannot be written \((File exists|Is a directory)"):
            write_mp4([np.zeros((64, 64, 3), np.uint8)], place, 20)


@pytest.fixture
def shown(monkeypatch):
    """Stand for the graphics and the encoder, and note whose video is written."""
    found = []
    monkeypatch.setattr(play, "choose_graphics", lambda: "egl")
    monkeypatch.setattr(play, "frames", lambda policy, *rest: found.append(policy))
    monkeypatch.setattr(play, "write_mp4", lambda *rest: None)
    return found


def test_of_two_runs_the_one_written_last_is_shown_also_without_a_status(shown, copy, tmp_path, capsys):
    older, newer = copy, shutil.copytree(copy, tmp_path / "newer")
    (newer / "status.json").rename(newer / "evaluation.csv")
    os.utime(older / "status.json", (0, 0))
    assert main([str(tmp_path)]) == 0
    assert shown[0].model.is_relative_to(newer)
    assert f"holds 2 runs: this is {newer}" in capsys.readouterr().err


def test_a_run_of_another_version_is_named_and_the_last_model_is_shown_if_asked_for(shown, copy, capsys):
    run = of_version(with_last(copy, 90), "0.0.1")
    assert main([str(run)]) == main([str(run), "--checkpoint", "last"]) == 0
    assert [(policy.model.parent.name, policy.step) for policy in shown] == [("best", 60), ("step_90", 90)]
    assert capsys.readouterr().err.count(f"{run} was trained by mtrl 0.0.1, and this is ") == 2


@pytest.mark.parametrize("size", [160, 200, 320])
def test_the_words_below_a_picture_stay_apart(size):
    pytest.importorskip("PIL")
    sheet = grid([np.zeros((size, size, 3), np.uint8)], [Tile("reach-v3", 1234.0)], size)
    height = (len(sheet) - size) // 2
    inked = (sheet[-height:].max(axis=(0, 2)) > 60).astype(int)
    starts, ends = np.flatnonzero(np.diff(inked) == 1), np.flatnonzero(np.diff(inked) == -1)
    gaps = sorted(starts[1:] - ends[: len(starts) - 1])
    # "not solved yet · return 1,234" is six words.
    assert min(gaps[-5:]) >= 2
    assert min(gaps[-5:]) > gaps[-6]


@pytest.mark.parametrize("tasks", [1, 2, 3, 10, 50])
def test_the_grid_holds_every_picture_with_its_text_below(tasks):
    pytest.importorskip("PIL")
    size = 160
    pictures = [np.full((size, size, 3), 50 + 4 * task, np.uint8) for task in range(tasks)]
    tiles = [Tile("a-v3", 1.0, solved_at=3 if task == 0 else None) for task in range(tasks)]
    sheet = grid(pictures, tiles, size)
    height, width, _ = sheet.shape
    assert height % 2 == width % 2 == 0, "the encoder wants even sizes"
    seen = {tuple(sheet[y, x]) for y in range(0, height, 10) for x in range(0, width, 10)}
    assert {(50 + 4 * task,) * 3 for task in range(tasks)} <= seen
    bar = sheet[size : size + 20, :size]
    assert bar.max() > 200, "there is no text below the first picture"
    assert tuple(sheet[0, 0]) == (76, 175, 80), "a solved task has no frame"


DRAW = """
import sys
from mtrl.env.camera import choose_graphics
choose_graphics()
import numpy as np
from mtrl import play
from mtrl.env.make import make_vec_env
run, out = sys.argv[1:]
pictures, plain = [], play.grid
play.grid = lambda shown, *rest: (pictures.append(shown), plain(shown, *rest))[1]
code = play.main([run, "--out", out, "--size", "96", "--every", "10", "--full"])
tasks = ["reach-v3", "drawer-close-v3"]
options = {"seed": 2, "render_mode": "rgb_array", "workers": 1, "task_id": False}
envs = {backend: make_vec_env(tasks, 1, backend=backend, **options) for backend in ("stock", "native")}
envs["alone"] = make_vec_env(tasks[:1], 1, backend="stock", **options)
for env in envs.values():
    env.env_method("set_task", 0, 7, indices=[0])
    env.reset()
frames = {name: env.env_method("render") for name, env in envs.items()}
np.savez(out + ".npz", pictures=pictures, **frames)
sys.exit(code)
"""
"""Writes a video, and renders a task alone and beside another one."""


@pytest.fixture(scope="module")
def drawn(saved, tmp_path_factory):
    """Return the video of a process of its own, for this one may have imported MuJoCo without graphics."""
    pytest.importorskip("imageio_ffmpeg")
    out = tmp_path_factory.mktemp("drawn") / "videos" / "play.mp4"
    result = python("-c", DRAW, saved, out, cwd=REPOSITORY)
    if "NoGraphicsError" in result.stderr:
        pytest.skip(result.stderr.splitlines()[-1])
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(out)
    return out


def test_a_video_shows_all_tasks_upright_from_first_to_last_step(drawn):
    import imageio.v2

    with imageio.v2.get_reader(drawn) as video:
        frames = [frame for frame in video]  # noqa: C416  (list() would ask for a length it does not know)
        assert video.get_meta_data()["fps"] == 8
    assert len(frames) == 4
    assert frames[0].shape == (96 + 14, 192, 3)
    pictures = np.load(f"{drawn}.npz")["pictures"].astype(int)
    assert pictures.shape == (4, 2, 96, 96, 3)
    red = (pictures[..., 0] > 90) & (pictures[..., 1] < 50)
    rows = np.arange(96)[None, None, :, None]
    # The arm stands on the left of the table, its shoulder and elbow above the middle of the picture.
    assert ((red & (rows < 48)).sum((2, 3)) > 50).all()
    # Above it is the empty grey sky; upside down there would be the floor.
    assert (np.ptp(pictures[:, :, :20], axis=(2, 3)) < 20).all()
    assert (np.abs(pictures[0] - pictures[-1]).max((1, 2, 3)) > 30).all(), "nothing moves"
    # Each model is drawn by itself: beside another one, gymnasium's viewer would lack the table.
    brown = (pictures[..., 0] - pictures[..., 2] > 15) & (pictures[..., 0] < 160) & ~red
    assert (brown.sum((2, 3)) > 300).all()


@pytest.mark.parametrize("backend", ["stock", "native"])
def test_a_frame_is_the_same_beside_other_copies(drawn, backend):
    shown = np.load(f"{drawn}.npz")
    (expected,), (same, other) = shown["alone"].astype(int), shown[backend]
    assert np.abs(same - expected).max() <= 2
    assert np.abs(other - expected).max() > 30
