"""Which protocol is spoken in a Redis: to a process of another, what lies there means nothing, or something else."""

import logging
import time
from collections.abc import Callable
from typing import Any

from redis import Redis, RedisError, ResponseError

from lowtide.config import Settings
from lowtide.tasks.errors import OtherProtocol
from lowtide.tasks.keys import PROTOCOL, Keys
from lowtide.tasks.outage import Outage
from lowtide.tasks.store import connect

log = logging.getLogger(__name__)

AGAIN_S = 1.0


def check(redis: Redis, keys: Keys) -> None:
    """Raises OtherProtocol, and RedisError. Where none is spoken so far, nothing is wrong."""
    found: Any = redis.get(keys.protocol)
    spoken = found.decode(errors="replace") if isinstance(found, bytes) else found
    if spoken not in (None, PROTOCOL):
        raise OtherProtocol(spoken=spoken, ours=PROTOCOL)


def agree(redis: Redis, keys: Keys) -> None:
    """From now on ours is spoken here. Raises OtherProtocol, and RedisError."""
    check(redis, keys)
    try:
        redis.set(keys.protocol, PROTOCOL, nx=True)
    except ResponseError as error:
        log.debug("the protocol is not written: %s", error)  # a full Redis: whoever comes later writes it
    check(redis, keys)  # another may have come first


def wait(settings: Settings, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Return when ours is spoken; says once that it waits, and why. A Redis that is away is for others to tell of."""
    redis, outage = connect(settings), Outage("waiting for a Redis of ours")
    while True:
        try:
            agree(redis, Keys.of(settings))
        except OtherProtocol as error:
            outage.failed(error)
            sleep(AGAIN_S)
        except RedisError:
            return
        else:
            outage.over()
            return
