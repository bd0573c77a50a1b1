"""`Peers`: what other workers of the fleet say of their outcomes, as far as Redis can be asked."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis import Redis

from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import UNREADABLE, Register
from lowtide.workers.suspicion.rule import Counts

SAMPLE = 16
"""Workers that are asked, at random, however many there are: when a whole fleet fails, each of a thousand asks."""


class Peers:
    """O(1): a look reads 16 statuses. Use from one thread. Each method raises RedisError."""

    def __init__(self, redis: Redis, keys: Keys, me: Callable[[], str | None]) -> None:
        """`me`: this worker's incarnation."""
        self._redis = redis
        self._register = Register.of(keys, "worker")
        self._me = me
        self._before: dict[str, Mapping[str, Any]] = {}

    def mark(self) -> None:
        """From now on is what `since_mark` tells, of some who live now."""
        drawn: Any = self._redis.zrandmember(self._register.beats, SAMPLE + 1)
        me = self._me()
        self._before = self._statuses([name for one in drawn if (name := one.decode(errors="replace")) != me][:SAMPLE])

    def since_mark(self, model: str) -> Counts:
        """What became of requests of `model` there since `mark`. Who is gone since then says nothing."""
        total = Counts()
        for name, now in self._statuses(list(self._before)).items():
            total = total.plus(_counts(now, model).since(_counts(self._before[name], model)))
        return total

    def serving(self, model: str) -> bool:
        """Whether somebody at the last `mark` could answer requests of `model` instead of us."""
        return any(
            model in status["models"] and not status.get("suspect") and not status.get("draining")
            for status in self._before.values()
        )

    def _statuses(self, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Of those that can be read: another release may have written them."""
        if not names:
            return {}
        found: Any = self._redis.hmget(self._register.statuses, names)
        read = {name: _read(text) for name, text in zip(names, found, strict=True) if text}
        return {name: status for name, status in read.items() if status is not None}


def _read(text: bytes) -> Mapping[str, Any] | None:
    try:
        status = json.loads(text)
        models, outcomes = status["models"], status["outcomes"]
        return status if isinstance(models, list) and all(map(_is_counts, outcomes.values())) else None
    except (*UNREADABLE, LookupError):
        return None


def _is_counts(counts: Mapping[str, Any]) -> bool:
    return all(isinstance(count, int) for count in counts.values())


def _counts(status: Mapping[str, Any], model: str) -> Counts:
    return Counts(status["outcomes"].get(model, {}))
