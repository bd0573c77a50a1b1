"""Ends a process that makes no progress, after it has logged what each thread does."""

import faulthandler
import logging
import os
import signal
import sys
import threading
from typing import Protocol

from lowtide.config.process.leave import leave
from lowtide.workers.consumer.loop_liveness import LoopLiveness
from lowtide.workers.engine.job import Overdue

log = logging.getLogger(__name__)

LOOK_S = 1.0
HAND_BACK_S = 10.0
"""For Celery to hand back what the engine gave up, and to end."""

EXIT_STUCK = 70
"""EX_SOFTWARE of sysexits.h: neither a clean stop nor a signal, so every supervisor restarts."""


class Watched(Protocol):
    """What an engine tells a watchdog."""

    def overdue(self) -> Overdue | None:
        """A batch, or one request, that does not end."""

    def give_up(self, overdue: Overdue) -> None:
        """End because of it."""

    def stuck(self) -> str | None:
        """What gets nowhere, as a sentence."""


class Watchdog:
    """One thread; its life is `start` → a look every second → `stop`, or the end of the process."""

    def __init__(self, engine: Watched, liveness: LoopLiveness, *, stuck_after_s: float) -> None:
        self.gave_up = False
        self._engine = engine
        self._liveness = liveness
        self._stuck_after_s = stuck_after_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Look from now on."""
        self._arm()
        self._thread.start()

    def stop(self) -> None:
        """Look no more. Idempotent."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        faulthandler.cancel_dump_traceback_later()

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_S):
            self._arm()
            if overdue := self._engine.overdue():
                self._give_up(overdue)
            elif reason := self._engine.stuck() or self._liveness.stuck():
                end_process(f"stuck: {reason}")

    def _arm(self) -> None:
        """Who never lets the interpreter go stops this thread as well: then a timer in C ends the process, unless it
        is set anew.
        """
        faulthandler.dump_traceback_later(self._stuck_after_s + LOOK_S, exit=True, file=_stderr())

    def _give_up(self, overdue: Overdue) -> None:
        """What the engine lets go, Celery hands back in an orderly end. If even that gets nowhere, the end comes so."""
        log.critical("the worker ends: %s", overdue.what)
        faulthandler.dump_traceback(file=_stderr(), all_threads=True)
        self.gave_up = True
        self._engine.give_up(overdue)
        os.kill(os.getpid(), signal.SIGTERM)
        if not self._stopped.wait(HAND_BACK_S):
            leave(EXIT_STUCK)


def end_process(reason: str) -> None:
    """Log what every thread does, and end the process at once. What it held is given back by whoever notices."""
    log.critical("the worker ends: %s", reason)
    faulthandler.dump_traceback(file=_stderr(), all_threads=True)
    leave(EXIT_STUCK)


def _stderr() -> int:
    return sys.__stderr__.fileno() if sys.__stderr__ else 2
