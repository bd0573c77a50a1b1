"""Which models the fleet serves, by a list in Redis and workers' statuses, and how fast they are. A caller's own
settings don't say.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from celery import Celery
from redis import AuthenticationError, Redis, RedisError

from lowtide.tasks.errors import OtherProtocol, UnknownModel, not_served
from lowtide.tasks.fork import Lock
from lowtide.tasks.redis import protocol
from lowtide.tasks.redis.connect import connect_briefly
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.rates import measured
from lowtide.tasks.redis.registry import UNREADABLE, live, models_of

_making = Lock()
FRESH_S = 5.0
"""So long a model that was on the list is taken to be served, and so long a Redis that was away isn't asked."""


def listed(redis: Redis, keys: Keys) -> frozenset[str] | None:
    """The models on the fleet's list; None without one, or with one that a later release wrote. Raises RedisError."""
    found: Any = redis.get(keys.models)
    try:
        names = json.loads(found) if found is not None else None
    except ValueError:
        return None
    return frozenset(map(str, names)) if isinstance(names, list) else None


def served(redis: Redis, keys: Keys, *, otherwise: frozenset[str] | None = None) -> frozenset[str] | None:
    """The models on the list, without one `otherwise`, and those of live workers, who may be of another release; None:
    not known. O(workers). Raises RedisError, and one of UNREADABLE.
    """
    names = listed(redis, keys)
    names = otherwise if names is None else names
    if names is None:
        return None
    return names | models_of(live(redis, keys, "worker"))


class Served:
    """What a caller's process knows of it: asks every `FRESH_S`, and again before it refuses. Safe from any thread."""

    def __init__(self, redis: Redis, keys: Keys, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._keys = keys
        self._clock = clock
        self._known: frozenset[str] = frozenset()
        self._rates: Mapping[str, float] = {}
        self._fresh_until_s = self._away_until_s = self._rates_until_s = -1.0

    def check(self, model: str) -> None:
        """Raises UnknownModel when no worker serves the model, nor would one that starts. Without a list, without
        Redis, or where others have written, nothing is refused. Raises redis-py's AuthenticationError when the
        password is wrong, and OtherProtocol.
        """
        now_s = self._clock()
        if now_s < self._away_until_s or (now_s < self._fresh_until_s and model in self._known):
            return
        try:
            protocol.check(self._redis, self._keys)
            known = listed(self._redis, self._keys)
            if known is not None and model not in known:
                known = served(self._redis, self._keys)
        except (AuthenticationError, OtherProtocol):
            raise  # Celery would try for 20 s before it said so
        except (RedisError, *UNREADABLE):
            self._away_until_s = now_s + FRESH_S
            return
        self._known, self._fresh_until_s = known or frozenset(), now_s + FRESH_S
        if known is not None and model not in known:
            raise UnknownModel(not_served(model, known), "model")

    def rates(self) -> Mapping[str, float]:
        """Model → device seconds per request, as far as workers have measured it and Redis can be asked."""
        now_s = self._clock()
        if now_s >= max(self._rates_until_s, self._away_until_s):
            self._rates_until_s = now_s + FRESH_S
            with suppress(RedisError):
                self._rates = measured(self._redis, self._keys)
        return self._rates


def check(app: Celery, model: str) -> None:
    """Raises UnknownModel when the fleet that `app` sends to does not serve the model."""
    if fleet := _fleet_of(app):
        fleet.check(model)


def rates(app: Celery) -> Mapping[str, float]:
    """`Served.rates` of the fleet that `app` sends to."""
    fleet = _fleet_of(app)
    return fleet.rates() if fleet else {}


def _fleet_of(app: Celery) -> Served | None:
    """None: nothing is sent, or to the broker in memory that an application has in its tests."""
    url = app.conf.broker_url
    if not url.startswith(("redis://", "rediss://")) or app.conf.task_always_eager:
        return None
    with _making:  # one for all threads, not one for each
        return _served_of(app, url, app.conf.broker_transport_options["global_keyprefix"])


@lru_cache
def _served_of(app: Celery, url: str, prefix: str) -> Served:
    """By what the app is configured for: a process may do that more than once."""
    return Served(connect_briefly(app.conf), Keys(prefix))
