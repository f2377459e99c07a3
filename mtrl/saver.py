"""Saves everything a run needs to go on, when that is due, and bears that the disk is full for a while."""

import logging
import time
from collections.abc import Mapping, Sequence

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from mtrl.checkpoint import Checkpoint, CheckpointFailedError, Stateful, Store
from mtrl.config import CheckpointConfig
from mtrl.metrics import Every
from mtrl.recorder import Recorder
from mtrl.records import CsvLog

logger = logging.getLogger(__name__)

MAX_FAILURES = 3
"""Attempts in a row to save everything, logs and checkpoint, that may fail before the run ends."""


class Saver:
    """Saves everything a run needs to go on.

    Args:
        cfg: When.
        store: Where the checkpoints lie.
        directory: The run directory, told of each checkpoint.
        logs: What else is written there, before each checkpoint.
        sections: What a checkpoint holds beside the agent, by name.
    """

    def __init__(
        self,
        cfg: CheckpointConfig,
        store: Store,
        directory: Recorder,
        logs: Sequence[CsvLog],
        sections: Mapping[str, Stateful],
    ) -> None:
        self.every = Every(cfg.every)
        self._minutes = cfg.minutes
        self._store, self._directory, self._sections = store, directory, sections
        self._written: list[CsvLog | Recorder] = [*logs, directory]
        self._saved_at = time.monotonic()
        self._failures = 0

    def restore(self, checkpoint: Checkpoint, agent: OffPolicyAlgorithm) -> None:
        """Set ``agent`` and the sections to what ``checkpoint`` holds."""
        self._store.restore(checkpoint, agent, self._sections)

    def is_due(self, step: int, *, logged: bool) -> bool:
        """Tell whether to save at ``step``: by steps, by minutes, or again after a failure.

        Args:
            step: Environment steps so far.
            logged: Whether a row of metrics.csv was written at this step; what failed is tried again at each,
                for the disk may have room again.
        """
        again = logged and (self._failures > 0 or any(log.waits for log in self._written))
        minutes = (time.monotonic() - self._saved_at) / 60
        return self.every.due(step) or again or minutes >= self._minutes

    def save(self, model: OffPolicyAlgorithm) -> bool:
        """Save everything, and tell whether that succeeded; the last of several failures in a row is raised.

        Raises:
            CheckpointFailedError: Nothing could be saved for too long.
        """
        try:
            # First the logs: a checkpoint tells how long they are, and rows that wait end with this process.
            for log in self._written:
                log.write()
            self._store.save(model, self._sections)
            self._directory.set_checkpoint(model.num_timesteps)
        except OSError as error:
            self._failures += 1
            logger.warning("step %d: nothing could be saved (%s)", model.num_timesteps, error)
            if self._failures >= MAX_FAILURES:
                raise CheckpointFailedError(
                    f"nothing could be saved {MAX_FAILURES} times in a row ({error}): make room on the disk"
                ) from error
            return False
        self._failures = 0
        self._saved_at = time.monotonic()
        return True
