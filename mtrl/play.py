"""``python -m mtrl.play RUN``: one video of all tasks of a run, side by side. Needs no screen."""

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mtrl.env.camera import Camera, choose_graphics
from mtrl.errors import REFUSED, ConfigurationError, EncoderError, RunEndedError
from mtrl.evaluation.sources import add_source_options, find_sources, read_source
from mtrl.packages import installed
from mtrl.rundir.run import last_written
from mtrl.streams import run_command
from mtrl.tasks import GOALS
from mtrl.text import printable

if TYPE_CHECKING:
    from mtrl.evaluation.policy import Policy

STEPS_PER_SECOND = 80
"""Environment steps in a second of the simulated world: five steps of MuJoCo of 2.5 ms each."""
_HOLD = 1.0  # Seconds that the last pictures stay when every task is solved.
_BAR = 0.14  # Height of the text below a picture, as a share of it.
_FONT, _LEAST_FONT = (
    0.36,
    11,
)  # Of its letters, as a share of that text, and in pixels where two lines hold them.
# Letters are drawn about this high and made smaller: as small as they are shown, whole pixels swallow their spaces.
_FINE = 40
_NAME, _SOLVED, _OPEN, _GROUND = (255, 255, 255), (76, 175, 80), (200, 200, 200), (24, 24, 24)
_EXTRA = "mtrl-metaworld[video]"
_MEND = f"install ffmpeg, or pip install '{_EXTRA}', and unset IMAGEIO_FFMPEG_EXE"
_PACKAGES = {"imageio": "imageio", "imageio-ffmpeg": "imageio_ffmpeg", "pillow": "PIL"}

Picture = NDArray[np.uint8]
"""``(height, width, 3)``."""


@dataclass(slots=True)
class Tile:
    """What is written below the picture of a task."""

    task: str
    total: float = 0.0
    solved_at: int | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the video and return the exit code: 0, or 2 with one sentence if that cannot be done."""
    parser = argparse.ArgumentParser(
        prog="python -m mtrl.play", description="One video of all tasks of a run, side by side."
    )
    add_source_options(parser, several=False)
    parser.add_argument("--out", type=Path, help="the mp4 to write; play.mp4 in the run directory by default")
    parser.add_argument("--episodes", type=int, default=1, help="of each task, one after the other")
    parser.add_argument("--size", type=int, default=320, help="pixels of a task's picture, each way")
    parser.add_argument("--every", type=int, default=4, help="environment steps from picture to picture")
    words = "play to the horizon even if every task is solved"
    parser.add_argument("--full", action="store_true", help=words)
    options = parser.parse_args(arguments)
    for name, least in (("episodes", 1), ("size", 64), ("every", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name}: give at least {least}")
    try:
        if missing := ", ".join(name for name, module in _PACKAGES.items() if not installed(module)):
            raise ConfigurationError(f"{missing} is missing: install it with pip install '{_EXTRA}'")
        choose_graphics()
        sources, problems = find_sources([options.run])
        if problems:
            raise ConfigurationError(problems[0])
        source = max(sources, key=lambda path: last_written(Path(path)))
        if len(sources) > 1:
            held = f"{options.run} holds {len(sources)} runs"
            print(f"mtrl: {printable(f'{held}: this is {source}, the one written last')}", file=sys.stderr)
        policy, said = read_source(source, options)
        for note in said:
            print(f"mtrl: {printable(note)}", file=sys.stderr)
        out = options.out or (Path(source) if Path(source).is_dir() else policy.model.parent) / "play.mp4"
        # A link that the user names is meant; one in somebody's directory is not followed, nor a pipe waited for.
        if not options.out and (out.is_symlink() or (out.exists() and not out.is_file())):
            raise ConfigurationError(f"{out} is no plain file: choose another place with --out FILE")
        pictures = frames(policy, options.size, options.every, options.episodes, options.full)
        write_mp4(pictures, out, STEPS_PER_SECOND / options.every)
    except (RunEndedError, ValueError) as error:
        print(f"mtrl: {printable(error)}", file=sys.stderr)
        return REFUSED
    print(printable(out))
    return 0


def frames(policy: "Policy", size: int, every: int, episodes: int, full: bool) -> Iterator[Picture]:
    """Yield pictures of ``policy`` playing all its tasks in a grid; episode *i* of a task plays goal *i* mod 50."""
    env = policy.make_env(1, backend="stock", workers=1)
    with closing(env), closing(Camera(size)) as camera:
        for episode in range(episodes):
            for task in range(len(policy.tasks)):
                env.env_method("set_task", task, episode % GOALS, indices=[task])
            obs, tiles = env.reset(), [Tile(task) for task in policy.tasks]
            left = round(_HOLD * STEPS_PER_SECOND)
            # The last step resets the environments, so its pictures would show the next episode.
            for step in range(policy.horizon):
                if step % every == 0:
                    pictures = [camera.picture(*simulation) for simulation in env.env_method("simulation")]
                    yield grid(pictures, tiles, size)
                obs, rewards, _, infos = env.step(policy.act(obs))
                for tile, reward, info in zip(tiles, rewards, infos, strict=True):
                    tile.total += float(reward)
                    if info["success"] and tile.solved_at is None:
                        tile.solved_at = step + 1
                left -= all(tile.solved_at is not None for tile in tiles)
                if not full and left <= 0:
                    break


def grid(pictures: Sequence[Picture], tiles: Sequence[Tile], size: int) -> Picture:
    """Return the pictures ``(size, size, 3)`` in a grid, each above the text of its tile."""
    from PIL import Image, ImageDraw, ImageFont

    columns = math.ceil(math.sqrt(len(tiles) * 16 / 9)) if len(tiles) > 3 else len(tiles)
    bar = 2 * round(size * _BAR / 2)
    width, height = 2 * (columns * size // 2), 2 * (math.ceil(len(tiles) / columns) * (size + bar) // 2)
    sheet = Image.new("RGB", (width, height), _GROUND)
    draw = ImageDraw.Draw(sheet)
    letters = max(_FONT * bar, min(_LEAST_FONT, 0.4 * bar))
    scale = max(1, round(_FINE / letters))
    font = ImageFont.load_default(size=scale * letters)
    for index, (picture, tile) in enumerate(zip(pictures, tiles, strict=True)):
        left, top = index % columns * size, index // columns * (size + bar)
        sheet.paste(Image.fromarray(picture), (left, top))
        outcome, colour = "not solved yet", _OPEN
        if tile.solved_at is not None:
            outcome, colour = f"solved at step {tile.solved_at}", _SOLVED
            frame = (left, top, left + size - 1, top + size - 1)
            draw.rectangle(frame, outline=_SOLVED, width=size // 100)
        caption = Image.new("RGB", (scale * size, scale * bar), _GROUND)
        outcome += f" · return {tile.total:,.0f}"
        for height, text, fill in ((0.05, tile.task, _NAME), (0.5, outcome, colour)):
            place = (0.02 * scale * size, height * scale * bar)
            ImageDraw.Draw(caption).text(place, text, fill, font)
        sheet.paste(caption.reduce(scale), (left, top + size))
    return np.asarray(sheet)


def write_mp4(pictures: Iterable[Picture], out: Path, rate: float) -> None:
    """Write ``pictures`` of even sizes, ``rate`` a second, to ``out``; they may be made while they are written.

    Raises:
        EncoderError: There is no encoder, or it does not work.
        ConfigurationError: The file cannot be written.
    """
    import imageio
    import imageio_ffmpeg

    try:
        encoder = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise EncoderError(f"there is no video encoder: {_MEND}") from error
    new = not out.exists()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # A place that cannot be written is found out here, so that whatever fails below is the encoder's doing.
        out.open("ab").close()
    except OSError as error:
        why = f"cannot be written ({error.strerror or error})"
        raise ConfigurationError(f"{out} {why}: choose another place with --out FILE") from error
    # Every player reads yuv420p, which wants even sizes.
    form = {"format": "FFMPEG", "codec": "libx264", "pixelformat": "yuv420p", "macro_block_size": 2}
    try:
        with imageio.get_writer(out, fps=rate, ffmpeg_log_level="error", **form) as video:
            for picture in pictures:
                try:
                    video.append_data(picture)
                except OSError as error:
                    raise _broken(encoder, str(error)) from error
        if not out.stat().st_size:
            raise _broken(encoder, "it wrote nothing")
    except BaseException:
        if new:
            out.unlink(missing_ok=True)
        raise


def _broken(encoder: str, reason: str) -> EncoderError:
    first = next(filter(None, map(str.strip, reason.splitlines())), reason)
    return EncoderError(f"the video encoder {encoder} does not work ({first}): {_MEND}")


if __name__ == "__main__":
    run_command(main)
