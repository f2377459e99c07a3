"""The threads that run the compiled step."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray


class Crew:
    """Threads that share the copies of one step among them; which thread steps which copy changes no result.

    Args:
        step: ``kernel.step_copies``; it runs without the interpreter's lock.
        addresses: Of ``mj_step`` and ``mj_forward``.
        threads: How many copies are stepped at the same time.
    """

    def __init__(self, step: Callable[..., None], addresses: tuple[int, int], threads: int) -> None:
        self._step, self._addresses, self._threads = step, addresses, threads
        self._next_copy = np.zeros(1, dtype=np.int64)
        self._running: list[Future[None]] = []
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    def run(self, copies: NDArray[np.void], actions: NDArray[np.float64], single: bool) -> None:
        """Step all copies; the calling thread takes its share."""
        job = self._job(copies, actions, single)
        helpers = self._start(self._threads - 1, job)
        self._step(*job)
        for helper in helpers:
            helper.result()

    def start(self, copies: NDArray[np.void], actions: NDArray[np.float64], single: bool) -> None:
        """Begin to step all copies in the background."""
        self._running = self._start(self._threads, self._job(copies, actions, single))

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

    def _job(self, copies: NDArray[np.void], actions: NDArray[np.float64], single: bool) -> tuple:
        self._next_copy[0] = 0
        return copies, actions, single, *self._addresses, self._next_copy.ctypes.data

    def _start(self, threads: int, job: tuple) -> list[Future[None]]:
        if threads == 0:
            return []
        if self._pool is None or self._process != os.getpid():
            # Threads do not survive a fork: a child that goes on with its parent's environment gets its own.
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="mtrl-native")
            self._process = os.getpid()
        return [self._pool.submit(self._step, *job) for _ in range(threads)]
