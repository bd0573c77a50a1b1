"""Gives this worker a slot of the machine, by a file lock, and finds the slot's last incarnation: that one is dead."""

import fcntl
import hashlib
import itertools
import logging
import os
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from lowtide.config import Settings, SettingsError
from lowtide.config.redact import redacted
from lowtide.tasks.fork import in_each_child

log = logging.getLogger(__name__)

NOTED = re.compile("([0-9a-f]{1,64}) ([0-9a-f]{12})")
"""An incarnation, and the machine that it lived on, since its last start."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Slot:
    """A place on this machine, whose lock is ours. `predecessor`: the incarnation of the last worker that had it and
    did not end in order.
    """

    name: str
    predecessor: str | None
    file: TextIO

    def note(self, incarnation: str) -> None:
        """Whoever has this place next knows by it what we held."""
        try:
            self.file.seek(0)
            self.file.truncate()
            self.file.write(f"{incarnation} {_machine()}")
            self.file.flush()
        except OSError as error:
            log.warning("what this worker holds comes back late if it is killed: %s", error)


@contextmanager
def claimed_slot(settings: Settings, *, folder: Path | None = None) -> Iterator[Slot]:
    """The slot of LOWTIDE_WORKER_SLOT, else the lowest number that no worker of this fleet has on this machine.

    A lock on a file, which ends with the process however it ends. Raises SettingsError when the slot is taken.
    """
    # Everybody may read the file's name, so nobody shall try passwords against it.
    fleet = hashlib.sha256(f"{redacted(settings.redis_url)} {settings.prefix}".encode()).hexdigest()[:12]
    folder = folder or Path(tempfile.gettempdir())
    wanted: Iterable[str] = [settings.worker_slot] if settings.worker_slot else map(str, itertools.count())
    for slot in wanted:
        path = folder / f"lowtide-{os.getuid()}-{fleet}-{slot}.lock"
        file = _lock(path)
        if file is not None:
            with file:
                in_each_child(file.close)  # one that outlives us would keep our place from whoever comes
                try:
                    yield Slot(slot, _predecessor(file), file)
                finally:
                    path.unlink(missing_ok=True)  # while it is locked: see `_lock`
            return
    raise SettingsError(
        f"LOWTIDE_WORKER_SLOT: a worker of this fleet has slot {settings.worker_slot} on this machine already: "
        "choose another, or unset it to get a free one"
    )


def _predecessor(file: TextIO) -> str | None:
    """Whom the file names, if it lived on this machine: the lock tells nothing of others, whose folder this may be as
    well, or a copy of it. Anything else in it is nobody's.
    """
    file.seek(0)
    noted = NOTED.fullmatch(file.read(100))
    return noted[1] if noted and noted[2] == _machine() else None


def _machine() -> str:
    boot = BOOT_ID.read_text() if BOOT_ID.exists() else ""
    return hashlib.sha256(f"{boot} {uuid.getnode()}".encode()).hexdigest()[:12]


def _lock(path: Path) -> TextIO | None:
    """The file, locked for as long as it is open; None when somebody else has it."""
    while True:
        # Not through a link that another user of a shared folder may have put there.
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        if _is_at(path, file):
            return file
        file.close()  # its owner removed it between our open and our lock: whoever comes next locks another


def _is_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
