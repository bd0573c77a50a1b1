"""Lists of ours that nobody reads: of a model that the fleet doesn't serve, of another separator, or of no model.

They hold tasks of callers by name, whom nobody can refuse. They don't size the fleet: no worker would take them.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from redis import Redis, RedisError

from lowtide.config import Settings
from lowtide.tasks.client.served import served
from lowtide.tasks.errors import not_served
from lowtide.tasks.queues import PREFIX, SEPARATOR, lists_of, model_of, worker_queues
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.scripts import lua

SCAN_KEYS = 1000
SCANS = 1000
"""So that a million keys are looked at, which takes some seconds. What lies beyond is not seen."""
SHOWN = 50
"""Lists of which more is read than the name. Whoever misspells in a loop makes thousands."""
DEFAULT_QUEUE_BEFORE = PREFIX.removesuffix(".")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadList:
    """`name`: without the fleet's prefix, printable. `oldest_s`: age of its oldest task, seconds; if that doesn't say
    it, for how long at least the list has been there; None if neither is known. `why` and `remedy`: for people.
    """

    name: str
    tasks: int
    oldest_s: float | None
    why: str
    remedy: str


class UnreadReader:
    """Looks through all keys of a database, by SCAN: O(keys), some microseconds each. Not for every turn of a loop."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._keys = Keys.of(settings)
        self._models = frozenset(settings.model_names)
        self._script = redis.register_script(lua(__package__, "unread"))

    def read(self) -> tuple[UnreadList, ...]:
        """The lists, by name. Notes in Redis since when they are there, if it may write. Raises RedisError."""
        # As callers know it: our own settings count only where nobody has written any.
        models = served(self._redis, self._keys, otherwise=self._models) or self._models
        read = {name for queue in worker_queues(models) for name in lists_of(queue)}
        names = sorted(set(self._names()) - read)[:SHOWN]
        now = int(self._redis.time()[0])
        idle_s = self._idle_s(names)
        known = self._since({name: now - idle for name, idle in idle_s.items()})
        found = self._script(keys=[self._keys.queue(name) for name in names]) if names else []
        return tuple(
            _unread(name, models, tasks=int(tasks), since=float(sent) if sent else known.get(name), now=now)
            for name, (tasks, sent) in zip(names, found, strict=True)
            if tasks
        )

    def _names(self) -> Iterator[str]:
        begin, cursor = self._keys.queue(DEFAULT_QUEUE_BEFORE), 0
        for _ in range(SCANS):
            keys: Any
            cursor, keys = self._redis.scan(cursor, match=f"{begin}*", count=SCAN_KEYS, _type="LIST")
            for name in (key.decode(errors="replace").removeprefix(self._keys.prefix) for key in keys):
                if name == DEFAULT_QUEUE_BEFORE or name.startswith(PREFIX):
                    yield name
            if not cursor:
                return

    def _idle_s(self, names: Iterable[str]) -> dict[str, int]:
        """Seconds since a list was last written or read, which looking at its content would end."""
        asked = list(names)
        with self._redis.pipeline(transaction=False) as pipe:
            for name in asked:
                pipe.object("IDLETIME", self._keys.queue(name))
            # A Redis that evicts by frequency doesn't know it.
            found = pipe.execute(raise_on_error=False)
        return {name: idle for name, idle in zip(asked, found, strict=True) if isinstance(idle, int)}

    def _since(self, found: dict[str, int]) -> dict[str, float]:
        """Since when each is known to be there: from an earlier look, else from this one."""
        known: Any = self._redis.hgetall(self._keys.unread)
        before = {name.decode(errors="replace"): float(at) for name, at in known.items()}
        try:
            if gone := before.keys() - found.keys():
                self._redis.hdel(self._keys.unread, *gone)
            for name in found.keys() - before.keys():
                self._redis.hsetnx(self._keys.unread, name, str(found[name]))
        except RedisError:
            pass  # who may only read sees it all the same
        return {name: min(at, before.get(name, at)) for name, at in found.items()}


def _unread(name: str, models: frozenset[str], *, tasks: int, since: float | None, now: int) -> UnreadList:
    why, remedy = _reason(name, models)
    oldest_s = None if since is None else max(0.0, now - since)
    shown = name.encode("unicode_escape").decode()
    return UnreadList(name=shown, tasks=tasks, oldest_s=oldest_s, why=why, remedy=f"{remedy}, or delete the list")


def _reason(name: str, models: frozenset[str]) -> tuple[str, str]:
    if name == DEFAULT_QUEUE_BEFORE:
        return "it is no model's queue", "name the callbacks' queue (LOWTIDE_CALLBACK_QUEUE)"
    for queue in worker_queues(models):
        if name.startswith(queue) and re.fullmatch(r"[^\w.-]+\d+", name.removeprefix(queue)):
            return (
                f"workers read {queue} with kombu's own separator and the steps 0 to 9",
                "let the caller leave `sep` and `priority_steps` as they are",
            )
    model = model_of(name.partition(SEPARATOR)[0]) or "it"
    return not_served(model, models), "add the model to LOWTIDE_MODELS"
