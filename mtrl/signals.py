"""Signals that ask a run to end: it finishes the step, saves, and exits with 128 plus the signal's number."""

import os
import signal
import time
from types import FrameType, TracebackType
from typing import Any, Self

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)
"""What a batch system sends ahead of the end, before or after another signal; never a reason to hurry."""
SAME_EVENT = 0.5
"""Seconds within which a signal that comes twice is one: sent to the process and to its group."""
LAUNCHED = "MTRL_LAUNCHED"
"""Variable of the environment of a process whose launcher passes signals on and counts them."""


class Preempted(Exception):
    """The run ends because of a signal; no error, for it was asked to.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number."""
        return 128 + self.number


class Signals:
    """Remembers the first signal while it is in force; a second one ends the process at once.

    A member of a sweep may get every signal twice, at any distance: from its group and from its launcher. There the
    launcher ends it at the second.
    """

    def __init__(self) -> None:
        self._counts = LAUNCHED not in os.environ
        self.received: int | None = None
        self._at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in HANDLED:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._at = number, now
            return
        same = number == self.received and now - self._at < SAME_EVENT
        if self._counts and not same and number not in WARNINGS:
            os._exit(128 + number)

    def check(self) -> None:
        """Raise Preempted if a signal has come.

        Raises:
            Preempted: with the first signal.
        """
        if self.received is not None:
            raise Preempted(self.received)
