"""The file that a search writes its trials to, held by one process at a time."""

import os
from pathlib import Path

from optuna.storages.journal import JournalFileBackend

from mtrl.errors import ConfigurationError
from mtrl.rundir.lock import lock
from mtrl.rundir.read import parse_json

MEND = "move it aside, or begin another search with name=..."


class JournalLock:
    """Holds the journal while a record is written; the operating system frees it however the process ends.

    optuna's own locks are files that a killed process leaves behind. The next waits half a minute for such a one,
    and for ever where the journal's path is relative, for its symbolic link then leads nowhere.

    Args:
        journal: The file, which exists.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._descriptor = -1

    def acquire(self) -> bool:
        """Wait until no other process holds the journal."""
        descriptor = os.open(self._journal, os.O_RDONLY)
        lock(descriptor)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let others have the journal."""
        os.close(self._descriptor)


def open_journal(journal: Path) -> JournalFileBackend:
    """Return the journal, made if need be; a last line that was only begun is cut.

    Raises:
        ConfigurationError: A line is no record; which one it is.
    """
    journal.touch()
    guard = JournalLock(journal)
    if _torn(journal):
        # Another search in this directory may be writing the rest of that line.
        guard.acquire()
        try:
            if _torn(journal):
                os.truncate(journal, journal.read_bytes().rfind(b"\n") + 1)
        finally:
            guard.release()
    for number, line in enumerate(journal.read_bytes().splitlines(), start=1):
        try:
            parse_json(line)
        except ValueError as error:
            raise ConfigurationError(f"{journal} is damaged in line {number}: {MEND}") from error
    return JournalFileBackend(str(journal), lock_obj=guard)


def _torn(journal: Path) -> bool:
    content = journal.read_bytes()
    return bool(content) and not content.endswith(b"\n")
