"""Ports for servers that a test starts, and perhaps stops and starts again."""

import os
from itertools import cycle

from lowtide.local.process import free_port

EACH = 100
"""Ports of one process of tests. Those that run side by side have been started together: their ids differ by little."""
_first = 20_000 + os.getpid() % 120 * EACH
_ports = cycle(range(_first, _first + EACH))


def steady_port() -> int:
    """A free port below those that Linux gives to clients: else any client of this machine may get it before the server
    does, or while that is away, even one that tries to reach it, and keep it.
    """
    return next(port for port in _ports if free_port(port) == port)
