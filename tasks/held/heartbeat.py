"""`Heartbeat`: a thread that registers this process, and renews its entry and its status every 5 s.

Whoever was silent for 20 s is taken for dead: a sweeper gives back what it held and removes it from the register. If it
lives after all, or Redis lost its data, its next heartbeat is refused, and it registers anew. A worker does so under
another id: what it holds under the old one is no longer its own. Where another protocol is spoken, this process does
not register, and counts as not registered if it had.
"""

import json
import logging
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis import Redis, RedisError

from lowtide.config.process.loop import Periodic
from lowtide.config.process.outage import Outage
from lowtide.tasks.errors import OtherProtocol
from lowtide.tasks.redis.keys import PROTOCOL, Keys
from lowtide.tasks.redis.protocol import check
from lowtide.tasks.redis.registry import Kind, Register, announce, unregister
from lowtide.tasks.redis.scripts import lua
from lowtide.tasks.redis.trouble import told

log = logging.getLogger(__name__)

BEAT_S = 5.0
"""A quarter of what the sweeper waits for: three heartbeats may fail."""

MOMENTS = 10
"""In an interval, by Redis' clock; a process has one of them. What comes at the same moment Redis reads, answers and
writes to its file together: 200 heartbeats a second cost it 3 ms of CPU a second, and one by one 15 ms.
"""

TELLS_EVERY = 12
"""At so many heartbeats a status is written that is as it was: a Redis that fell back by a second may have another."""

BEAT_TIMEOUT_S = 4.0
"""On a dead connection: the next heartbeat, on a new one, still comes in time."""


def new_incarnation() -> str:
    """An id that no other process, and no other life of this one, has."""
    return uuid.uuid4().hex[:16]


def until_next(moment_s: float, *, now_s: float, interval_s: float) -> float:
    """Seconds until it is `moment_s` again, which it is every `interval_s`; it may be a little early now. Pure."""
    left_s = (moment_s - now_s) % interval_s
    return left_s if left_s > interval_s / MOMENTS / 2 else left_s + interval_s


class Heartbeat:
    """Its life is `start` → a heartbeat every `interval_s` → `stop`, which signs off at once. O(workers): one script
    call each.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        kind: Kind,
        status: Callable[[], Mapping[str, Any]] = dict,
        name: str | None = None,
        models: Sequence[str] = (),
        on_registered: Callable[[str], None] = lambda incarnation: None,
        interval_s: float = BEAT_S,
    ) -> None:
        """`name`: None for an id that is another with each registration, as of a worker. `status`: JSON-ready; with a
        reason under `suspect`, this process is no capacity. `models`: those that the fleet serves. `on_registered` is
        called in the thread of the heartbeat.
        """
        self._redis = redis
        self._keys = keys
        self._kind = kind
        self._register = Register.of(keys, kind)
        self._status = status
        self._name = name
        self._models = models
        self._on_registered = on_registered
        self._interval_s = self._pause_s = interval_s
        self._moment_s = secrets.randbelow(MOMENTS) * interval_s / MOMENTS
        self._incarnation: str | None = None
        self._announced = False
        self._told: str | None = None
        self._untold = 0
        """Heartbeats since that was told."""
        self._beat = redis.register_script(lua(__package__, "heartbeat"))
        self._orphan = redis.register_script(lua(__package__, "orphan"))
        self._lapsed: str | None = None
        self.other_protocol: OtherProtocol | None = None
        """What the last heartbeat found there instead of a fleet of ours."""
        self._registration = Outage("not registered", why=told)
        # Who is silent looks dead, and loses what it holds.
        self._periodic = Periodic("heartbeat", self.beat, pause_s=lambda: self._pause_s)

    @property
    def incarnation(self) -> str | None:
        """Under which id this process is registered, as far as it knows; None: not yet, or not any more."""
        return self._incarnation

    def start(self) -> None:
        """Register now, then keep saying so."""
        self.beat()
        self._periodic.start()

    def stop(self) -> None:
        """Sign off. Idempotent."""
        self._periodic.stop()
        incarnation, self._incarnation = self._incarnation, None
        if incarnation is None:
            return
        try:
            unregister(self._redis, self._keys, self._kind, incarnation)
        except RedisError:
            log.debug("%s lapses by itself: Redis is unreachable", incarnation)

    def lapsed(self, incarnation: str) -> None:
        """Redis refused it: register anew, at once. From any thread, which doesn't wait."""
        if incarnation == self._incarnation:
            self._lapsed, self._incarnation = incarnation, None
            self._periodic.wake()

    def beat(self) -> None:
        """Say it once. When Redis is away, whoever needs it says so."""
        incarnation = self._incarnation
        self._pause_s = self._interval_s
        try:
            if incarnation is None:
                self._begin()
            elif not self._say(incarnation, registers=False):
                log.warning("%s was taken for dead, or Redis lost its data: registering anew", incarnation)
                self.lapsed(incarnation)
                self._begin()
            if self._models and not self._announced:
                self._announced = announce(self._redis, self._keys, self._models)
        except OtherProtocol as error:
            self.other_protocol = error
            self._registration.failed(error)
            if incarnation:
                self.lapsed(incarnation)
        except RedisError as error:
            self._told = None  # whoever comes back may have lost what it was told last
            log.debug("a heartbeat failed: %s", error)

    def _begin(self) -> None:
        # Under another id than a call before that had no answer: what that may have registered is left to lapse.
        check(self._redis, self._keys)
        if self._lapsed and self._name is None:
            self._orphan(keys=[self._register.beats, self._keys.held(self._lapsed)], args=[self._lapsed])
        self._lapsed = None
        incarnation = self._name or new_incarnation()
        self._say(incarnation, registers=True)
        self._incarnation, self.other_protocol = incarnation, None
        self._registration.over()
        self._announced = False  # what forgot us may have forgotten that
        self._on_registered(incarnation)

    def _say(self, incarnation: str, *, registers: bool) -> bool:
        status = dict(self._status())
        text = json.dumps(status)
        tells = registers or text != self._told or self._untold >= TELLS_EVERY - 1
        keys = [*self._register.both, self._keys.protocol, self._keys.suspects]
        suspect = "1" if status.get("suspect") else "0"
        args = [incarnation, text if tells else "", "1" if registers else "0", PROTOCOL, suspect]
        now_s = float(self._beat(keys=keys, args=args))
        if now_s < 0:
            check(self._redis, self._keys)
            raise RedisError("another protocol was spoken there, and is no longer")
        if now_s:
            self._told, self._untold = text, 0 if tells else self._untold + 1
            self._pause_s = until_next(self._moment_s, now_s=now_s, interval_s=self._interval_s)
        return bool(now_s)
