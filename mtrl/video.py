"""An mp4 out of pictures, by ffmpeg: what is wrong with the place and what with the encoder are told apart."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_ANSWER_WITHIN = 30.0
"""Seconds that an encoder is given to say its version."""


def write_mp4(pictures: Iterable[NDArray[np.uint8]], out: Path, rate: float) -> None:
    """Write ``pictures``, each ``(height, width, 3)`` of even sizes, to ``out``.

    Args:
        pictures: One after the other; they may be made while they are written.
        out: The file; its directory is made.
        rate: Pictures in a second.

    Raises:
        ValueError: There is no encoder, or it does not work, in one sentence.
        OSError: The file cannot be written.
    """
    import imageio

    encoder = find_encoder()
    new = not out.exists()
    out.parent.mkdir(parents=True, exist_ok=True)
    # A place that cannot be written is found out here, so that whatever fails below is the encoder's doing.
    with out.open("ab"):
        pass
    try:
        # yuv420p, which every player reads, wants even sizes.
        video = imageio.get_writer(
            out,
            format="FFMPEG",
            fps=rate,
            codec="libx264",
            macro_block_size=2,
            pixelformat="yuv420p",
            ffmpeg_log_level="error",
        )
        try:
            for picture in pictures:
                try:
                    video.append_data(picture)
                except OSError as error:
                    raise _broken(encoder, str(error)) from error
        finally:
            video.close()
        if not out.stat().st_size:
            raise _broken(encoder, "it wrote nothing")
    except BaseException:
        if new:
            out.unlink(missing_ok=True)
        raise


def find_encoder() -> str:
    """Return the ffmpeg that works here, of ``IMAGEIO_FFMPEG_EXE``, the package or the system.

    Raises:
        ValueError: There is none, or it does not work, in one sentence.
    """
    import imageio_ffmpeg

    try:
        encoder = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise ValueError(f"there is no video encoder: {_MEND}") from error
    try:
        said = subprocess.run(
            [encoder, "-version"], capture_output=True, text=True, check=False, timeout=_ANSWER_WITHIN
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        what = getattr(error, "strerror", None) or "it does not answer"
        raise _broken(encoder, what) from error
    if said.returncode != 0 or not said.stdout.startswith("ffmpeg"):
        raise _broken(encoder, "it is no ffmpeg, or a damaged one")
    return encoder


_MEND = "install ffmpeg, or pip install 'mtrl-metaworld[video]', and unset IMAGEIO_FFMPEG_EXE"


def _broken(encoder: str, what: str) -> ValueError:
    lines = [line.strip() for line in what.splitlines() if line.strip()]
    return ValueError(f"the video encoder {encoder} does not work ({lines[0] if lines else what}): {_MEND}")
