"""Stuck is dead (promise 8): a process that gets nowhere says what each thread does, and ends."""

import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

LOOK_S = 1.0
EXIT_STUCK = 70
"""EX_SOFTWARE of sysexits.h: neither a clean stop nor a signal, so every supervisor restarts."""


class Watchdog:
    """One thread; its life is `start` → a look every second → `stop`, or the end of the process."""

    def __init__(self, stuck: Callable[[], str | None]) -> None:
        """`stuck` says what gets nowhere, as a sentence; None as a rule."""
        self._stuck = stuck
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Look from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more. Idempotent."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_S):
            if reason := self._stuck():
                end_process(f"stuck: {reason}")


def end_process(reason: str) -> None:
    """Log what every thread does, and end the process at once. What it held is given back by whoever notices."""
    log.critical("the worker ends: %s", reason)
    faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
    leave(EXIT_STUCK)


def leave(code: int) -> None:
    """End the process without Python's own clean-up, which crashes beside a thread that is still inside PyTorch."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
