"""What a fleet's user of Redis must be allowed: keys, channels and commands. `lowtide doctor` tries all of it; other
commands say once what is missing, and wait until it is granted.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from redis import Redis, RedisError
from redis.exceptions import NoPermissionError, ResponseError

from lowtide.config import Settings
from lowtide.config.redis_url import RedisAddress
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import STEM, Keys

log = logging.getLogger(__name__)

COMMANDS = (
    *("DEL K", "EXISTS K", "EXPIRE K 1", "PEXPIRE K 1", "GET K", "MGET K", "SET K 0", "INCR K", "INCRBY K 1", "SCAN 0"),
    *("BLPOP K 1", "BRPOP K 1", "LINDEX K 0", "LLEN K", "LPUSH K 0", "LRANGE K 0 0", "LTRIM K 0 0", "RPOP K"),
    *("RPUSH K 0", "HDEL K 0", "HGET K 0", "HGETALL K", "HKEYS K", "HSET K 0 0", "HSETNX K 0 0", "HVALS K"),
    *("HLEN K", "HMGET K 0", "HRANDFIELD K", "ZRANDMEMBER K", "GETRANGE K 0 0"),
    *("SADD K 0", "SMEMBERS K", "SREM K 0", "ZADD K 0 0", "ZCARD K", "ZCOUNT K 0 0", "ZRANGE K 0 0"),
    *("ZRANGEBYSCORE K 0 0", "ZREM K 0", "ZSCORE K 0", "TIME", "TYPE K", "PING"),
    *("EVAL 0 1 K", "EVALSHA 0 1 K", "SCRIPT LOAD 0"),
    *("UNSUBSCRIBE C", "PUNSUBSCRIBE C"),
)
"""Of every part and of Celery, in scripts or not; K a key, C a channel. All of them are of +@all -@dangerous."""
FIRST_S, MOST_S = 1.0, 30.0
"""Of a pause."""
LOOK_S = 0.2
CALM_S = 60.0
"""After so long without a refusal the pauses begin anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """A right that is missing, and the rule that gives it."""

    what: str
    rule: str
    remote: bool = False
    """Needed for Celery's remote control and events alone."""

    @property
    def is_place(self) -> bool:
        """A key or a channel, not a command."""
        return not self.rule.startswith("+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The rules of one fleet's user."""

    prefix: str
    db: int

    @classmethod
    def of(cls, settings: Settings) -> "Access":
        """Of the fleet that `settings` describes."""
        return cls(prefix=settings.prefix, db=RedisAddress.of(settings.redis_url).db)

    @property
    def keys(self) -> str:
        """All keys of a fleet begin with its prefix."""
        return f"~{self.prefix}*"

    @property
    def control(self) -> str:
        """The channel of Celery's remote control."""
        return f"{self.prefix}/{self.db}.celery.pidbox"

    @property
    def events(self) -> str:
        """The channels of Celery's events, as a pattern."""
        return f"{self.prefix}/{self.db}.celeryev/*"

    @property
    def results(self) -> str:
        """The channels of results, as a pattern."""
        return Keys(self.prefix).result("*")

    @property
    def rules(self) -> str:
        """What `ACL SETUSER` takes. Control and events are subscribed to as patterns, and Redis lets a pattern pass
        only where a rule says the very same.
        """
        channels = f"resetchannels &{self.control} &{self.events} &{self.results}"
        return f"{self.keys} {channels} +@all -@dangerous +info +client|tracking"

    def missing(self, redis: Redis) -> list[Lack]:
        """What the user lacks. Nothing is done: each command is queued in a transaction, where Redis looks at the
        rights, and the transaction is given up. Raises RedisError, also when Redis can't do what a fleet needs: it is
        full, a replica, of a cluster, or does not know a command.
        """
        connection: Any = redis.connection_pool.get_connection()
        try:
            ask = _Asking(connection)
            return list(self._commands(ask)) + list(self._places(ask)) if ask.may("MULTI") else [_lack("MULTI")]
        finally:
            connection.disconnect()
            redis.connection_pool.release(connection)

    def _commands(self, ask: "_Asking") -> Iterator[Lack]:
        words = {"K": f"{self.prefix}{STEM}doctor", "C": self.results.replace("*", "doctor")}
        for command in COMMANDS:
            name, *arguments = command.split(" ")
            if not ask.may(name, *(words.get(word, word) for word in arguments)) and ask.command_refused:
                yield _lack(name)

    def _places(self, ask: "_Asking") -> Iterator[Lack]:
        if not ask.may("EXISTS", f"{self.prefix}{STEM}doctor") and not ask.command_refused:
            yield Lack(what=f"keys that begin with {self.prefix!r}", rule=self.keys)
        for used_for, channel in (
            ("Celery's remote control", self.control),
            ("Celery's events, which Flower shows", self.events),
            ("results", self.results),
        ):
            one, remote = channel.replace("*", "doctor"), channel != self.results
            as_pattern = remote and not ask.may("PSUBSCRIBE", channel)
            if not as_pattern and ask.may("SUBSCRIBE", one) and ask.may("PUBLISH", one, ""):
                continue
            place = Lack(what=f"channel {channel}, {used_for}", rule=f"&{channel}", remote=remote)
            yield _lack(ask.name) if ask.command_refused else place


def _lack(command: str) -> Lack:
    return Lack(what=f"command {command}", rule=f"+{command.lower()}")


class _Asking:
    """Sends commands within a transaction that is never executed."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.name = ""
        self.command_refused = False

    def may(self, name: str, *arguments: str) -> bool:
        """False when a right is missing; `command_refused`: the one to run the command at all."""
        self.name = name
        self._connection.send_command(name, *arguments)
        try:
            self._connection.read_response()
        except NoPermissionError as error:
            self.command_refused = " to run " in str(error)
            return False
        except ResponseError as error:
            if "transaction" not in str(error):  # which some refuse in one: no question of rights
                raise
        return True


class Rights:
    """Of one process, which says once what is missing, and waits. Use from one thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        remote: bool = True,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`remote`: this process takes part in Celery's remote control and events."""
        self._access = Access.of(settings)
        self._user = RedisAddress.of(settings.redis_url).username or "default"
        self._redis = connect(settings)
        self._remote = remote
        self._sleep = sleep
        self._clock = clock
        self._told: set[Lack] = set()
        self._pause_s = FIRST_S
        self._refused_s = -math.inf

    def wait(self, look: Callable[[], None] = lambda: None, *, refused: bool = False) -> None:
        """Return when keys and channels may be used. A command that is lacking is told of alone, for not every process
        runs every command; but if something was `refused`, there is a pause in any case. Calls `look` five times a
        second, which may raise to end this. A Redis that is away is for others to tell of.
        """
        while self._lacks_a_place() or refused:
            self._pause(look)
            refused = False

    def _lacks_a_place(self) -> bool:
        try:
            lacks = [lack for lack in self._access.missing(self._redis) if self._remote or not lack.remote]
        except RedisError:
            return False
        for lack in lacks:
            if lack not in self._told:
                remedy = f"ACL SETUSER {self._user} {lack.rule}"
                log.error("Redis: the user %s may not use %s → %s", self._user, lack.what, remedy)
        self._told = set(lacks)
        return any(lack.is_place for lack in lacks)

    def _pause(self, look: Callable[[], None]) -> None:
        """Longer each time."""
        now_s = self._clock()
        self._pause_s = FIRST_S if now_s - self._refused_s > CALM_S else min(2 * self._pause_s, MOST_S)
        until_s = now_s + self._pause_s
        while self._clock() < until_s:
            look()
            self._sleep(LOOK_S)
        self._refused_s = self._clock()
