"""Signals that ask a run to end: it finishes the step, saves, and exits with 128 plus the signal's number."""

import os
import signal
import time
from types import FrameType, TracebackType
from typing import Any, Self

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)
"""What a batch system sends ahead of the end, before or after another signal; never a reason to hurry."""
_SAME_EVENT = 0.5
"""Seconds within which a signal that comes twice is one: sent to the process and to its group."""


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
    """Remembers the first signal while it is in force; a second one ends the process at once."""

    def __init__(self) -> None:
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
        if number in _WARNINGS or (number == self.received and now - self._at < _SAME_EVENT):
            return
        os._exit(128 + number)

    def check(self) -> None:
        """Raise Preempted if a signal has come.

        Raises:
            Preempted: with the first signal.
        """
        if self.received is not None:
            raise Preempted(self.received)
