"""`lowtide …`: thin commands that wire the objects by hand. Each command imports what it needs when it runs."""

import atexit
import os
import signal
import sys

SERVICES = ("bridge", "worker", "autoscale", "up")
"""They run until SIGTERM, and end with 0."""


def run() -> None:
    """The program: what `lowtide` and `python -m lowtide.cli` call."""
    if len(sys.argv) > 1 and sys.argv[1] in SERVICES:
        # Until a service has a handler of its own it holds nothing, and torch alone takes seconds to import.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        # Python gives signals their default back before the process is gone: a second one would change its exit code.
        atexit.register(signal.signal, signal.SIGTERM, signal.SIG_IGN)
    from lowtide.cli.main import main

    main()
