"""`lowtide …`: thin commands that wire the objects by hand. Each command imports what it needs when it runs."""

import atexit
import os
import signal
import sys

SERVICES = ("bridge", "worker", "autoscale", "up")
"""They run until SIGTERM, and end with 0."""
STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""


def run() -> None:
    """The program: what `lowtide` and `python -m lowtide.cli` call."""
    if next((word for word in sys.argv[1:] if not word.startswith("-")), None) in SERVICES:
        # Until a service has a handler of its own it holds nothing, and torch alone takes seconds to import.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        # Python gives signals their default back before the process is gone: a second one would change its exit code.
        atexit.register(signal.signal, signal.SIGTERM, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by whoever started us
            # What a terminal's encoding has not is shown escaped; it would be an error in the middle of the results.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a TextIO need not have it
    try:
        from lowtide.cli.main import main
    except ModuleNotFoundError as error:
        sys.exit(f'Error: {error.name} is not installed: pip install "lowtide"')
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    main()
