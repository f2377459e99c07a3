"""What a command shows never decides how a run ends: what standard output or error does not take is left out."""

import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from mtrl.errors import FAILED, REFUSED, used_up

LOST: dict[int, str] = {}
"""A sentence about standard output (1) and standard error (2), where it has failed."""
_NAMES = {1: "standard output", 2: "standard error"}


class _Descriptor(io.FileIO):
    """A terminal, pipe or file that may go away, fill up, or ask to wait: what it does not take is left out."""

    def write(self, data: bytes) -> int:
        try:
            written = super().write(data)
        except OSError as error:
            _lose(self.fileno(), error)
            written = None
        return len(data) if written is None else written


def _lose(descriptor: int, reason: object) -> None:
    LOST.setdefault(descriptor, f"what {_NAMES[descriptor]} does not take is left out ({reason})")


def protect() -> None:
    """Let nothing that is printed raise, whatever becomes of where it goes; the first step of a command.

    A character that the encoding lacks is escaped. A stream that somebody has put in the place of Python's stays.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Otherwise the next file that is opened would get the number, and what is printed. Children, too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):
            continue
        if stream is None:
            _lose(descriptor, "it was closed at the start")
        binary = io.BufferedWriter(_Descriptor(descriptor, "w", closefd=False))
        buffering = {"line_buffering": descriptor == 2 or binary.raw.isatty()}
        buffering["write_through"] = getattr(stream, "write_through", False)
        encoding = getattr(stream, "encoding", "utf-8")
        setattr(sys, name, io.TextIOWrapper(binary, encoding, "backslashreplace", **buffering))


def delivered() -> int:
    """Return the exit code of a command whose product is what it has printed: a reader may go, a disk not be full."""
    sys.stdout.flush()
    if 1 not in LOST or "Broken pipe" in LOST[1]:
        return 0
    print(f"mtrl: {LOST[1]}", file=sys.stderr)
    return FAILED


def run_command(main: Callable[[], int], *, product: bool = True) -> NoReturn:
    """Exit with the code that ``main`` returns, whatever becomes of its output, with Ctrl-C, and with little memory.

    ``product`` says whether what it prints is all that it is for.
    """
    protect()
    try:
        code = main()
        code = delivered() if product and code == 0 else code
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if (what := used_up(error)) is None:
            raise
        print(f"mtrl: there is no more {what} for this process ({error!r}): see ulimit -a", file=sys.stderr)
        code = REFUSED
    sys.exit(code)
