"""Who is alive: every worker and bridge renews a key of its own; whoever wants to know reads them all.

One thread per process; its life is `start` → a beat every 5 s → `stop`, which withdraws the word at once.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from redis import Redis, RedisError

from lowtide.tasks.keys import PRESENCE_S, Keys

log = logging.getLogger(__name__)

BEAT_S = PRESENCE_S / 3

NODE = "lowtide@"
"""What the Celery name of each of our workers begins with."""

Kind = Literal["worker", "bridge"]

UNREADABLE = (ValueError, TypeError, AttributeError)
"""What it raises to read a word that another release, or another program, has written."""


@dataclass(frozen=True, slots=True)
class Roll:
    """Where one kind of process signs: the set of names, and the key of one name."""

    names: str
    key_of: Callable[[str], str]

    @classmethod
    def of(cls, keys: Keys, kind: Kind) -> "Roll":
        """The roll of this kind of process."""
        return cls(keys.workers, keys.worker) if kind == "worker" else cls(keys.bridges, keys.bridge)


def live(redis: Redis, keys: Keys, kind: Kind) -> dict[str, dict[str, Any]]:
    """Name → word of every live process of this kind. Names that lapsed are struck from the roll. Raises RedisError,
    and ValueError on what is no JSON.
    """
    return {name: json.loads(word) for name, word in _words(redis, keys, kind).items()}


def alive(redis: Redis, keys: Keys, kind: Kind) -> int:
    """How many processes of this kind live, whatever they say of themselves. Raises RedisError."""
    return len(_words(redis, keys, kind))


def models_of(words: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The models that live workers serve, by their words. Raises one of UNREADABLE."""
    return {str(model) for word in words.values() for model in word.get("models", ())}


def _words(redis: Redis, keys: Keys, kind: Kind) -> dict[str, bytes | str]:
    roll = Roll.of(keys, kind)
    found = redis.smembers(roll.names)
    names = sorted(str(name, "utf-8", "replace") if isinstance(name, bytes) else name for name in found)
    if not names:
        return {}
    words = dict(zip(names, redis.mget([roll.key_of(name) for name in names]), strict=True))
    if lapsed := [name for name, word in words.items() if word is None]:
        redis.srem(roll.names, *lapsed)
    return {name: word for name, word in words.items() if word is not None}


def announce(redis: Any, keys: Keys, models: Iterable[str]) -> None:
    """Write the fleet's list of models: what was written last holds, and it stays when nobody lives. `redis`: a client
    or a pipeline. A Redis that is away is told of by whoever needs it, not here.
    """
    try:
        redis.set(keys.models, json.dumps(sorted(models)))
    except RedisError as error:
        log.debug("the fleet's models are not written: %s", error)


class Presence:
    """Says every 5 s that this process lives, with a word about itself (JSON-ready), and which models its fleet serves,
    if it is told.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        kind: Kind,
        name: str,
        word: Callable[[], Mapping[str, Any]],
        models: Sequence[str] = (),
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._models = models
        self._roll = Roll.of(keys, kind)
        self._name = name
        self._word = word
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        """Sign the roll now, then keep signing."""
        self.beat()
        self._thread.start()

    def stop(self) -> None:
        """Withdraw. Idempotent."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self._redis.delete(self._roll.key_of(self._name))
        except RedisError:
            log.debug("presence of %s lapses by itself: Redis is unreachable", self._name)

    def beat(self) -> None:
        """Sign once. A Redis that is away is told of by whoever needs it, not here."""
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.sadd(self._roll.names, self._name)
                pipe.set(self._roll.key_of(self._name), json.dumps(dict(self._word())), ex=PRESENCE_S)
                if self._models:
                    announce(pipe, self._keys, self._models)
                pipe.execute()
        except RedisError as error:
            log.debug("presence beat of %s failed: %s", self._name, error)

    def _run(self) -> None:
        while not self._stopped.wait(BEAT_S):
            try:
                self.beat()
            except Exception:  # outermost loop: who is silent looks dead, and bridges pull for the living alone
                log.exception("a beat of %s failed", self._name)
