"""`Vm`: a worker process that stands for a Spot VM: it boots for a while, may be preempted, and ends when deleted."""

import threading
from collections.abc import Callable

from lowtide.config.process.preemption import PREEMPTED
from lowtide.local.metadata import MetadataServer
from lowtide.local.process import ChildProcess

NOTICE_S = 30.0
"""From the notice to the end. Source: "Spot VMs", preemption process: up to 30 seconds."""
SHUTDOWN_AFTER_S = 1.0
"""From the notice to SIGTERM: the shutdown of the operating system begins with the notice, near enough."""

Launch = Callable[[str, str], ChildProcess]
"""Name of a VM and URL of its metadata server → its worker, not started yet."""


class Vm:
    """Its life is `start` → boot → the worker runs → `delete` or `preempt`. Each has a thread of its own."""

    def __init__(self, name: str, *, launch: Launch, boot_s: float, notice_s: float = NOTICE_S) -> None:
        self.name = name
        self._boot_s = boot_s
        self._notice_s = notice_s
        self._metadata = MetadataServer()
        try:
            self._worker = launch(name, self._metadata.url)
        except BaseException:
            self._metadata.stop()
            raise
        self._ending = threading.Event()
        self._preempted = False
        self._booted = False
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)

    @property
    def is_booting(self) -> bool:
        """Made, and its worker not started."""
        return self.is_there and not self._booted

    @property
    def is_there(self) -> bool:
        """Until it is gone: it may be ending."""
        return self._thread.is_alive()

    @property
    def is_ending(self) -> bool:
        """It was told to go: the group no longer counts it."""
        return self._ending.is_set()

    def start(self) -> None:
        """Boot, then run the worker."""
        self._metadata.start()
        self._thread.start()

    def delete(self) -> None:
        """SIGTERM to the worker, which drains, as a VM's shutdown does."""
        self._ending.set()

    def preempt(self) -> None:
        """A notice from the metadata server, then SIGTERM, and the end after `notice_s` whatever the worker does."""
        self._preempted = True
        self._ending.set()

    def join(self) -> None:
        """Wait until it is gone."""
        self._thread.join()

    def _live(self) -> None:
        if not self._ending.wait(self._boot_s):
            self._worker.start()
            self._booted = True
            self._ending.wait()
            if self._preempted:
                self._end_by_notice()
            else:
                self._worker.stop()
        self._metadata.stop()

    def _end_by_notice(self) -> None:
        self._worker.retire()
        self._metadata.announce(PREEMPTED, "TRUE")
        self._worker.wait(SHUTDOWN_AFTER_S)
        self._worker.stop(grace_s=self._notice_s - SHUTDOWN_AFTER_S)
