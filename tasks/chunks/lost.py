"""Notices single tasks that Redis has no longer: a queue was purged, a stock Celery worker popped a task, an answer of
Redis was lost. A Redis that was emptied or restarted is `Epoch`'s to notice.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from redis import Redis

from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.scripts import lua

LIST_MESSAGES = 10_000
"""A longer list isn't looked through: its tasks are taken to be in it, until it is shorter."""
PAGE_MESSAGES = 500
PAGE_BYTES = 1024 * 1024
"""Of one call. Redis serves nobody else meanwhile: 4 to 5 ms per MiB, measured on two shared cores."""
LIST_PAGES = 64
"""A list that takes more is as one that is too long."""


class LostTasks:
    """Finds tasks of one owner that were missing at two looks or more, and at every one for `gone_s`. From one thread.

    A look costs two keys for each task, and the ids, never the contents, of at most 10,000 messages for each queue.
    """

    def __init__(
        self, redis: Redis, keys: Keys, owner: str, *, gone_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._owner = owner
        self._gone_s = gone_s
        self._clock = clock
        self._find = redis.register_script(lua(__package__, "find"))
        self._missing: dict[str, float] = {}

    @property
    def anything_missing(self) -> bool:
        """Something was missing at the last look."""
        return bool(self._missing)

    def look(self, queues: Mapping[str, str]) -> list[str]:
        """Look for these tasks (id → queue); returns the lost ones. Raises RedisError, and then begins anew."""
        before, self._missing = self._missing, {}
        nowhere = self._nowhere(queues)
        now_s = self._clock()
        self._missing = {task: before.get(task, now_s) for task in nowhere}
        lost = [task for task, since_s in self._missing.items() if task in before and now_s - since_s >= self._gone_s]
        for task in lost:
            del self._missing[task]
        return lost

    def _nowhere(self, queues: Mapping[str, str]) -> set[str]:
        # In the order in which a task moves: what moves meanwhile is found in its next place.
        left = set(queues)
        for queue in set(queues.values()):
            left -= self._in_list(queue, {task for task, its in queues.items() if its == queue})
        return self._idle(left)

    def _in_list(self, queue: str, wanted: set[str]) -> set[str]:
        key = self._keys.queue(queue)
        length: Any = self._redis.llen(key)
        if length > LIST_MESSAGES:
            return wanted
        # From the end to which others add: what shifts meanwhile is read twice, and not left out.
        found: set[str] = set()
        for pages, page in enumerate(self._pages(key, [str(place) for place in range(length)]), start=1):
            found |= page
            if pages == LIST_PAGES:
                return wanted
        return found

    def _pages(self, key: str, places: Sequence[str]) -> Iterator[set[str]]:
        while places:
            read, *found = self._find(keys=[key], args=[f"{self._owner}.", PAGE_BYTES, *places[:PAGE_MESSAGES]])
            yield {task.decode() for task in found}
            places = places[read:]

    def _idle(self, tasks: Iterable[str]) -> set[str]:
        """Those that no worker holds, and that have no result."""
        asked = sorted(tasks)
        if not asked:
            return set()
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hmget(self._keys.holders, asked)
            for task in asked:
                pipe.exists(self._keys.result(task))
            holders, *results = pipe.execute()
            return {task for task, *found in zip(asked, holders, results, strict=True) if not any(found)}
