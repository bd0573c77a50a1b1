"""What can happen to the Redis of a fleet, and its end."""

import os
import shutil
import signal
from collections.abc import Callable
from typing import Any

from tests.integration.outages.fleet import OutageFleet

Fault = Callable[[OutageFleet], Any]


def kill(fleet: OutageFleet) -> None:
    assert fleet.server.pid
    os.kill(fleet.server.pid, signal.SIGKILL)
    fleet.server.stop()


def start(fleet: OutageFleet) -> None:
    fleet.server.start()


def start_empty(fleet: OutageFleet) -> None:
    shutil.rmtree(fleet.server.log_path.parent)
    fleet.server.start()


def fill(fleet: OutageFleet) -> None:
    fleet.redis.config_set("maxmemory", 1_000_000)


def enlarge(fleet: OutageFleet) -> None:
    fleet.redis.config_set("maxmemory", 0)


def make_read_only(fleet: OutageFleet) -> None:
    fleet.redis.replicaof("127.0.0.1", 1)


def make_writable(fleet: OutageFleet) -> None:
    fleet.redis.replicaof("NO", "ONE")


def freeze(fleet: OutageFleet) -> None:
    assert fleet.server.pid
    os.kill(fleet.server.pid, signal.SIGSTOP)


def thaw(fleet: OutageFleet) -> None:
    assert fleet.server.pid
    os.kill(fleet.server.pid, signal.SIGCONT)
