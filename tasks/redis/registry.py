"""Who is alive: every worker and bridge is registered in Redis and renews its entry (`lowtide.tasks.held.heartbeat`).

To a reader a process is dead when its last heartbeat is older than `ALIVE_S` by Redis' clock, also when no sweeper
(`lowtide.tasks.held.sweeper`) has removed it from the register yet.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from redis import Redis, RedisError

from lowtide.tasks.redis.connect import text_of
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.scripts import lua

log = logging.getLogger(__name__)

ALIVE_S = 15

NODE = "lowtide@"
"""What the Celery name of each of our workers begins with."""

Kind = Literal["worker", "bridge"]

UNREADABLE = (ValueError, TypeError, AttributeError)
"""What it raises to read a status that another release, or another program, has written."""


@dataclass(frozen=True, slots=True)
class Register:
    """Where one kind of process is registered: the sorted set of heartbeats, and the hash of statuses."""

    beats: str
    statuses: str

    @classmethod
    def of(cls, keys: Keys, kind: Kind) -> "Register":
        """That of this kind of process."""
        if kind == "worker":
            return cls(keys.workers, keys.worker_status)
        return cls(keys.bridges, keys.bridge_status)

    @property
    def both(self) -> list[str]:
        """As scripts take them."""
        return [self.beats, self.statuses]


def live(redis: Redis, keys: Keys, kind: Kind) -> dict[str, dict[str, Any]]:
    """Status of every live process of this kind, by incarnation or name. O(processes). Raises RedisError, and
    ValueError on what is no JSON.
    """
    found = _ask(redis, keys, kind, statuses=True)
    texts = [text_of(item) for item in found]
    return {name: json.loads(status) for name, status in sorted(zip(texts[::2], texts[1::2], strict=True))}


def registered(redis: Redis, keys: Keys, kind: Kind) -> dict[str, Mapping[str, Any]]:
    """Last status of every process of this kind, by incarnation or name: also of one that vanished, until a sweeper has
    removed it. Empty if it can't be read. O(processes). Raises RedisError.
    """
    register = Register.of(keys, kind)
    names: Any = redis.zrange(register.beats, 0, -1)
    statuses: Any = redis.hgetall(register.statuses)
    return {text_of(name): _status(statuses.get(name, "{}")) for name in names}


def alive(redis: Redis, keys: Keys, kind: Kind) -> int:
    """How many processes of this kind live and are capacity, which a suspect worker is not. O(log processes). Raises
    RedisError.
    """
    return int(_ask(redis, keys, kind, statuses=False))


def models_of(statuses: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The models that live workers serve, by their statuses. Raises one of UNREADABLE."""
    return {str(model) for status in statuses.values() for model in status.get("models", ())}


def name_of(incarnation: str, status: Mapping[str, Any]) -> str:
    """What people call it: a worker's host, slot and process. A bridge has no other name, nor has what another program
    wrote.
    """
    return str(status.get("name") or incarnation) if isinstance(status, Mapping) else incarnation


def by_name(statuses: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Incarnation and status of each, in the order of their names."""
    return sorted(statuses.items(), key=lambda item: name_of(*item))


def unregister(redis: Redis, keys: Keys, kind: Kind, name: str, *, beat: float | None = None) -> bool:
    """Remove a process from the register that ends, or whose last heartbeat is still `beat`. False: it holds something,
    or has been heard of since. Raises RedisError.
    """
    script = redis.register_script(lua(__package__, "leave"))
    found = [*Register.of(keys, kind).both, keys.held(name), keys.suspects]
    return bool(script(keys=found, args=[name, "" if beat is None else repr(beat)]))


def announce(redis: Redis, keys: Keys, models: Iterable[str]) -> bool:
    """Write the fleet's list of models: what was written last holds, and it stays when nobody lives. False: Redis did
    not take it, of which whoever needs it tells.
    """
    try:
        return bool(redis.set(keys.models, json.dumps(sorted(models))))
    except RedisError as error:
        log.debug("the fleet's models are not written: %s", error)
        return False


def _status(text: bytes | str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except UNREADABLE:
        return {}
    return found if isinstance(found, dict) else {}


def _ask(redis: Redis, keys: Keys, kind: Kind, *, statuses: bool) -> Any:
    asked = [*Register.of(keys, kind).both, *([keys.suspects] if kind == "worker" else [])]
    return redis.register_script(lua(__package__, "alive"))(keys=asked, args=[ALIVE_S, int(statuses)])
