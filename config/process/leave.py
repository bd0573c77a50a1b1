"""The end of a process that must not depend on its threads."""

import logging
import os
import sys
import threading

log = logging.getLogger(__name__)


def leave(code: int) -> None:
    """End the process without Python's own clean-up, which waits for threads, and crashes beside one inside PyTorch."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def leave_after(after_s: float, *, code: int) -> threading.Timer:
    """Leave then, whatever else happens, unless the timer that this returns is cancelled."""
    timer = threading.Timer(after_s, _give_up, (after_s, code))
    timer.daemon = True
    timer.start()
    return timer


def _give_up(after_s: float, code: int) -> None:
    log.warning("not done after %.0f s: leaving; what is still held goes back when its time is over", after_s)
    leave(code)
