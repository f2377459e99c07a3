"""Signals that ask a run to end: it finishes the step, saves, and exits with 128 plus the signal's number."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from mtrl.errors import Preempted

WARNINGS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""What a batch system sends ahead of the end, before or after another signal; never a reason to hurry."""
HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, *WARNINGS)
SAME_EVENT = 0.5
"""Seconds within which a signal that comes twice is one: sent to the process and to its group."""
NO_EXIT = threading.Lock()
"""Held around steps that the end of the process must not cut in two, because another process would complain."""
LAUNCHED = "MTRL_LAUNCHED"
"""Environment variable of a process whose launcher passes signals on and counts them."""


def handled() -> tuple[signal.Signals, ...]:
    """Return the signals to listen to: not a hangup where the process was started to outlive its terminal (nohup)."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return tuple(number for number in HANDLED if not (ignored and number == signal.SIGHUP))


class Signals:
    """Listens to signals: until ``defer`` the first one ends the process at once; afterwards it is remembered.

    While a run starts there is nothing to save, and its files survive an end at any moment. The process is then ended
    by a thread of its own, because Python calls no handler while it compiles or loads a library.

    A second signal ends the process at once in any case. A member of a sweep may get every signal twice, at any
    distance: from its group and from its launcher. There the launcher ends it at the second.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.message_at_exit: Callable[[Preempted], str] = lambda signal: (
            f"{signal}: nothing is lost; the same command continues the run"
        )
        """Called before the process ends at once; returns what is printed."""
        self._counts = LAUNCHED not in os.environ
        self._deferred = False
        self._at = 0.0
        self._before: dict[int, Any] = {}
        self._wake = self._wake_before = -1

    def __enter__(self) -> Self:
        woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        threading.Thread(target=self._watch, args=(woken,), name="mtrl-signals", daemon=True).start()
        # A full pipe has woken the thread already.
        self._wake_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in handled():
            self._before[number] = signal.signal(number, self._handle)
        return self

    def release(self, *_: object) -> None:
        """Restore the handlers that were there before. Safe to call twice."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        if self._wake >= 0:
            signal.set_wakeup_fd(self._wake_before, warn_on_full_buffer=False)
            os.close(self._wake)
            self._wake = -1

    __exit__ = release

    def defer(self) -> None:
        """Remember signals for ``check`` from now on, because there is something to save."""
        self._deferred = True

    def check(self) -> None:
        """Raise Preempted, with the first signal, if one has come."""
        if self.received is not None:
            raise Preempted(self.received)

    def _handle(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._at = number, now
            return
        same = number == self.received and now - self._at < SAME_EVENT
        if self._counts and not same and number not in WARNINGS:
            os._exit(128 + number)

    def _watch(self, woken: int) -> None:
        """End the process at a signal that need not wait; runs until the other end of the pipe is closed."""
        with open(woken, "rb", buffering=0) as pipe:
            while numbers := pipe.read(1):
                if numbers[0] in HANDLED and not self._deferred:
                    NO_EXIT.acquire(timeout=1.0)
                    try:
                        print(self.message_at_exit(Preempted(numbers[0])), flush=True)
                    finally:
                        os._exit(128 + numbers[0])
