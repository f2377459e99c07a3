"""``python -m mtrl.play``: a video of all tasks, the right way up, with what happens written below each."""

import os
import subprocess
import sys

import numpy as np
import pytest
from saved_runs import save_run
from tiny_runs import REPOSITORY

from mtrl import graphics, play
from mtrl.graphics import NoGraphicsError, choose_graphics
from mtrl.play import Tile, grid, main

TASKS = ("drawer-close-v3", "reach-v3")


def test_what_already_chooses_the_graphics_is_left_alone(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    assert choose_graphics() == "glfw"


def test_the_first_that_draws_is_taken(monkeypatch):
    monkeypatch.setattr(graphics, "_TRY", "import os, sys; sys.exit(os.environ['MUJOCO_GL'] != 'osmesa')")
    monkeypatch.setenv("MUJOCO_GL", "")
    assert choose_graphics() == os.environ["MUJOCO_GL"] == "osmesa"


def test_where_nothing_draws_the_refusal_says_what_to_install(monkeypatch):
    monkeypatch.setattr(graphics, "_TRY", "raise SystemExit(1)")
    monkeypatch.setenv("MUJOCO_GL", "")
    with pytest.raises(NoGraphicsError, match=r"apt-get install libegl1.*libosmesa6"):
        choose_graphics()


def test_a_missing_package_or_encoder_or_run_is_one_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    assert main([str(tmp_path / "nowhere")]) == 2
    monkeypatch.setattr(play, "find_spec", lambda name: None)
    assert main([str(tmp_path / "nowhere")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "nowhere does not exist" in lines[0]
    assert "imageio, imageio-ffmpeg, pillow is missing" in lines[1]


def test_no_encoder_is_one_sentence(monkeypatch, tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")

    def none():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none)
    with pytest.raises(ValueError, match="no video encoder"):
        play.write_video(None, "train", tmp_path / "a.mp4", 64, 4)


@pytest.mark.parametrize("tasks", [1, 2, 3, 10, 50])
def test_the_grid_holds_every_picture_with_its_text_below(tasks):
    pytest.importorskip("PIL")
    size = 160
    pictures = [np.full((size, size, 3), 50 + 4 * task, np.uint8) for task in range(tasks)]
    tiles = [Tile("a-v3", 3, 1.0, solved_at=3 if task == 0 else None) for task in range(tasks)]
    sheet = grid(pictures, tiles, size)
    height, width, _ = sheet.shape
    assert height % 2 == width % 2 == 0, "the encoder wants even sizes"
    seen = {tuple(sheet[y, x]) for y in range(0, height, 10) for x in range(0, width, 10)}
    assert {(50 + 4 * task,) * 3 for task in range(tasks)} <= seen
    bar = sheet[size : size + 20, :size]
    assert bar.max() > 200, "there is no text below the first picture"
    assert tuple(sheet[0, 0]) == (76, 175, 80), "a solved task has no frame"


_RECORD = """
import sys
import numpy as np
from mtrl.graphics import NoGraphicsError, choose_graphics
try:
    choose_graphics()
except NoGraphicsError as error:
    sys.exit(f"no graphics: {error}")
from mtrl.play import main
from mtrl import play
pictures = []
plain = play.grid
play.grid = lambda shown, *rest: (pictures.append(shown), plain(shown, *rest))[1]
code = main([sys.argv[1], "--out", sys.argv[2], "--size", "96", "--every", "10", "--full"])
np.savez(sys.argv[2] + ".npz", pictures=pictures)
sys.exit(code)
"""


def test_a_video_shows_all_tasks_upright_from_first_to_last_step(tmp_path):
    imageio = pytest.importorskip("imageio.v2")
    tasks = f"env.tasks=[{','.join(TASKS)}]"
    run = save_run(tmp_path, "experiment=mt3", tasks, "env.horizon=40")
    out = tmp_path / "videos" / "play.mp4"
    # In a process of its own: this one may have imported MuJoCo without graphics.
    words = [sys.executable, "-c", _RECORD, str(run), str(out)]
    variables = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(words, env=variables, capture_output=True, text=True, cwd=tmp_path)
    if result.stderr.startswith("no graphics"):
        pytest.skip(result.stderr.strip())
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(out)
    with imageio.get_reader(out) as video:
        frames = [frame for frame in video]  # noqa: C416  (list() would ask for a length it does not know)
        assert video.get_meta_data()["fps"] == 8
    assert len(frames) == 4
    assert frames[0].shape == (96 + 14, 192, 3)
    pictures = np.load(f"{out}.npz")["pictures"].astype(int)
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


_BESIDE = """
import sys
import numpy as np
from mtrl.graphics import NoGraphicsError, choose_graphics
try:
    choose_graphics()
except NoGraphicsError as error:
    sys.exit(f"no graphics: {error}")
from mtrl.env import make_vec_env
tasks = ["reach-v3", "drawer-close-v3"]
options = {"seed": 2, "render_mode": "rgb_array", "workers": 1, "task_id": False}
together = {backend: make_vec_env(tasks, 1, backend=backend, **options) for backend in ("stock", "native")}
alone = make_vec_env(tasks[:1], 1, backend="stock", **options)
for env in (alone, *together.values()):
    env.env_method("set_task", 0, 7, indices=[0])
    env.reset()
expected = alone.env_method("render")[0].astype(int)
for env in together.values():
    frames = env.env_method("render")
    assert np.abs(frames[0] - expected).max() <= 2
    assert np.abs(frames[1] - expected).max() > 30
"""


def test_a_frame_is_the_same_beside_other_copies():
    variables = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run([sys.executable, "-c", _BESIDE], env=variables, capture_output=True, text=True)
    if result.stderr.startswith("no graphics"):
        pytest.skip(result.stderr.strip())
    assert result.returncode == 0, result.stderr
