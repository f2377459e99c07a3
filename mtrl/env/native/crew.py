"""The threads that run the compiled step."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np


class Crew:
    """Threads that share the copies of one step among them; which thread steps which copy changes no result.

    Args:
        step: ``kernel.step_copies``, which runs without the interpreter's lock.
        arguments: What it takes at every step alike: from ``copies`` up to ``mj_forward``.
        threads: How many copies are stepped at the same time.
    """

    def __init__(self, step: Callable[..., None], arguments: tuple[object, ...], threads: int) -> None:
        self._step, self._threads = step, threads
        self._next_copy = np.zeros(1, dtype=np.int64)
        self._arguments = *arguments, self._next_copy.ctypes.data
        self._running: list[Future[None]] = []
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    def run(self, *first: object) -> None:
        """Step all copies, this thread taking its share; ``first`` are the step's arguments before the others."""
        helpers = self._start(self._threads - 1, first)
        self._step(*first, *self._arguments)
        for helper in helpers:
            helper.result()

    def start(self, *first: object) -> None:
        """Begin to step all copies in the background; ``first`` as for ``run``."""
        self._running = self._start(self._threads, first)

    def wait(self) -> None:
        """Return when all copies have been stepped."""
        running, self._running = self._running, []
        for future in running:
            future.result()

    def close(self) -> None:
        """End the threads."""
        self.wait()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _start(self, threads: int, first: tuple[object, ...]) -> list[Future[None]]:
        self._next_copy[0] = 0
        if threads == 0:
            return []
        if self._pool is None or self._process != os.getpid():
            # Threads do not survive a fork: a child that goes on with its parent's environment gets its own.
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="mtrl-native")
            self._process = os.getpid()
        return [self._pool.submit(self._step, *first, *self._arguments) for _ in range(threads)]
