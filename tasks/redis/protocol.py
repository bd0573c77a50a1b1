"""Which protocol is spoken in a Redis: what its keys hold. A process of another protocol would misread them.

The first heartbeat of a fleet writes it. From then on every heartbeat, take and batch of chunks looks first, and a
sweeper when it renews its lock.
"""

import time
from collections.abc import Callable
from typing import Any

from redis import Redis, RedisError

from lowtide.config import Settings
from lowtide.config.process.outage import Outage
from lowtide.tasks.errors import OtherProtocol
from lowtide.tasks.redis.connect import connect, text_of
from lowtide.tasks.redis.keys import PROTOCOL, Keys
from lowtide.tasks.redis.trouble import told

AGAIN_S = 1.0
UNVERSIONED = "1"


def check(redis: Redis, keys: Keys) -> None:
    """Raises OtherProtocol, and RedisError. Where none is spoken so far, nothing is wrong."""
    found: Any = redis.get(keys.protocol)
    spoken = None if found is None else text_of(found)
    if spoken is None and _is_unversioned(redis, keys):
        spoken = UNVERSIONED
    if spoken not in (None, PROTOCOL):
        raise OtherProtocol(spoken=spoken, ours=PROTOCOL)


def _is_unversioned(redis: Redis, keys: Keys) -> bool:
    """A fleet that says nothing of its protocol is there: somebody of it lives, or what its workers took waits for one
    of them to give it back. O(its processes).
    """
    kinds = {"workers": "w", "bridges": "b"}
    with redis.pipeline(transaction=False) as pipe:
        for names in kinds:
            pipe.smembers(keys.unversioned(names))
        answers = pipe.execute(raise_on_error=False)  # something else may have the name
    known = [found if isinstance(found, set) else () for found in answers]
    living = [f"{kind}:{text_of(name)}" for kind, names in zip(kinds.values(), known, strict=True) for name in names]
    return bool(redis.exists(*map(keys.unversioned, ("unacked", *living))))


def wait(settings: Settings, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Return when no other is spoken; says once that it waits, and why. A Redis that is away is for others to tell."""
    redis, outage = connect(settings), Outage("waiting for a Redis of ours", why=told)
    while True:
        try:
            check(redis, Keys.of(settings))
        except OtherProtocol as error:
            outage.failed(error)
            sleep(AGAIN_S)
        except RedisError:
            return
        else:
            outage.over()
            return
