"""Every error that ends a run or a command; each knows its exit code and the state it leaves a run in.

Exit codes: 0 done, 1 failed, 2 refused, 75 try again (EX_TEMPFAIL of sysexits.h), 128 + number when a signal ended
the run. The message is one sentence that names the mistake and the fix.
"""

import errno
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

FAILED, REFUSED, TRY_AGAIN = 1, 2, 75
_USED_UP = {
    "disk": (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, "no space left"),
    "open files": (errno.EMFILE, errno.ENFILE, "too many open files"),
    "memory": (errno.ENOMEM, "allocate memory", "out of memory"),
    "threads and processes": (errno.EAGAIN, "start new thread"),
}
"""What may be used up, and the numbers and words of errors that say so; libraries raise many kinds."""


def used_up(error: BaseException) -> str | None:
    """Return what the machine, or a limit of this process, had no more of as ``error`` was raised; None for others."""
    number, words = getattr(error, "errno", None), str(error).lower()
    for what, signs in _USED_UP.items():
        if number in signs or any(isinstance(sign, str) and sign in words for sign in signs):
            return what
    return "memory" if isinstance(error, MemoryError) else None


class RunEndedError(Exception):
    """Ends a run. Subclasses say how."""

    exit_code: ClassVar[int] = FAILED
    state: ClassVar[str] = "failed"
    """What ``status.json`` says of the run afterwards: ``failed`` or ``interrupted``."""


class RefusedError(RunEndedError, ValueError):
    """Refuses what is given, before anything is done."""

    exit_code = REFUSED


class TryAgainError(RunEndedError, RuntimeError):
    """Ends a run through no fault of its own."""

    exit_code, state = TRY_AGAIN, "interrupted"


class ConfigurationError(RefusedError):
    """A configuration that cannot run."""


class UnreadableRunError(RefusedError):
    """A directory that cannot be read as a run."""


class LoadError(RefusedError):
    """A run, checkpoint or zip that holds no usable policy."""


class DamagedError(RefusedError):
    """A file of a checkpoint that is not what was written."""


class NoGraphicsError(RefusedError):
    """A machine on which nothing can draw."""


class EncoderError(RefusedError):
    """A video encoder that is missing or does not work."""


class CheckpointFailedError(TryAgainError):
    """Writing a checkpoint failed several times in a row."""


class DirectoryChangedError(TryAgainError):
    """Another program moved, deleted or cut what the run writes to."""


class WorkerLostError(TryAgainError):
    """A worker process was killed or no longer answers."""


class WorkerRaisedError(RunEndedError, RuntimeError):
    """An environment raised in its worker process; the message carries the worker's traceback."""


class UnstableError(RunEndedError, RuntimeError):
    """The simulation becomes unstable too often to learn from."""


class ActionNotFiniteError(RunEndedError, ValueError):
    """An environment received an action that is NaN or infinite."""


class TrainingNotFiniteError(RunEndedError, ArithmeticError):
    """A NaN or an infinity in training: in a transition, in a loss, or in what is learned.

    ``tensor`` is named at ``step``, if that is known; ``tasks`` are the indices of the tasks concerned, none if it
    concerns all. If a transition holds it, ``transition`` is that, as plain arrays.
    """

    def __init__(
        self, tensor: str, step: int | None, tasks: list[int], transition: dict[str, Any] | None = None
    ) -> None:
        self.tensor, self.step, self.tasks, self.transition = tensor, step, tasks, transition
        super().__init__(self.sentence())

    def sentence(
        self, names: Sequence[str] | None = None, checkpoint: Path | str | None = "<that checkpoint>"
    ) -> str:
        """Return the message, with the tasks' names and the newest checkpoint (None before the first)."""
        where = "" if self.step is None else f" at step {self.step:,}"
        whose = ", ".join(str(names[task] if names else task) for task in self.tasks)
        # Both settings change the run directory, so the advice must be a new run.
        how = "a lower algo.learning_rate, or algo.max_gradient_norm=1 where algo=sac"
        advice = (
            f"continue from the last checkpoint in a new run, with transfer.source={checkpoint} and {how}"
        )
        if self.transition is not None:
            see = "see refused_transition.npz in the run directory"
            advice = f"the environment, or the policy that acted, is broken: {see}"
        elif checkpoint is None:
            advice = f"train from scratch with {how}"
        return f"{self.tensor}{whose and f' of task {whose}'} is NaN or infinite{where}: {advice}"


class Preempted(Exception):
    """The signal ``number`` asked the run to end."""

    state = "interrupted"

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number, self.exit_code = number, 128 + number
