"""When nothing comes: says what is waited for and why as far as can be known, and knows when to give up."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from redis import RedisError

from lowtide.cli.terminal import counted
from lowtide.config import Settings
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import live
from lowtide.tasks.redis.trouble import trouble_of

WONDER_S = 30.0
"""So long without an answer, and a person wonders."""
LOOK_EVERY_S = 15.0
SAY_AGAIN_S = 300.0
LAST_LOOK_S = 5.0


class Silence:
    """One wait for answers. `look` finds out why none comes; it may take its time, in a thread of its own.

    Used from one thread: `broken` with each sign of life, `told` in between.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        look: Callable[[], str],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cause = ""
        self._timeout_s = timeout_s
        self._look = look
        self._say = say
        self._clock = clock
        self._since_s = clock()
        self._look_due_s = self._wonder_s
        self._looking: threading.Thread | None = None
        self._said = ("", 0.0)

    def broken(self) -> None:
        """Something came, or was sent."""
        self.cause = ""
        self._since_s = self._clock()
        self._look_due_s = self._wonder_s
        self._said = ("", 0.0)

    def told(self, waiting: Callable[[], str]) -> bool:
        """Says what is due; `waiting`: what is waited for. True when it is time to give up, with the last `cause`."""
        silent_s = self._clock() - self._since_s
        if silent_s >= self._look_due_s and not self._is_looking:
            self._look_due_s = silent_s + LOOK_EVERY_S
            self._looking = threading.Thread(target=self._find_out, name="silence", daemon=True)
            self._looking.start()
        gives_up = silent_s >= self._timeout_s
        if gives_up and self._looking and not self.cause:
            self._looking.join(LAST_LOOK_S)
        if self.cause and silent_s >= self._wonder_s:
            self._tell(silent_s, waiting)
        return gives_up

    @property
    def _wonder_s(self) -> float:
        return min(WONDER_S, self._timeout_s / 2)

    @property
    def _is_looking(self) -> bool:
        return self._looking is not None and self._looking.is_alive()

    def _find_out(self) -> None:
        self.cause = self._look()

    def _tell(self, silent_s: float, waiting: Callable[[], str]) -> None:
        head, at_s = self._said
        # Behind the colon may be the newest of many: it would be news with each look.
        if self.cause.partition(": ")[0] != head or silent_s - at_s >= SAY_AGAIN_S:
            self._said = (self.cause.partition(": ")[0], silent_s)
            self._say(f"Nothing came for {duration(silent_s)}; waiting for {waiting()}: {self.cause}")


def duration(seconds: float) -> str:
    """As a person says it."""
    for unit, length_s in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def why_silent(settings: Settings, model: str | None = None) -> str:
    """What can be known from Redis of a fleet that does not answer."""
    redis, keys = connect(settings), Keys.of(settings)
    try:
        return cause_of(live(redis, keys, "bridge"), live(redis, keys, "worker"), model)
    except (RedisError, OSError) as error:
        why = trouble_of(error)
        return f"Redis (LOWTIDE_REDIS_URL) can't be read from here, so whether anybody works is not known: {why}"
    except Exception as error:  # noqa: BLE001 (the thread's outermost loop: others may have written what is there)
        return f"what Redis (LOWTIDE_REDIS_URL) holds can't be read: {type(error).__name__}"
    finally:
        redis.close()


def cause_of(bridges: Mapping[str, Any], workers: Mapping[str, Mapping[str, Any]], model: str | None) -> str:
    """The likeliest reason, and what to do. Pure."""
    if not bridges:
        return "no bridge is alive: `lowtide bridge` runs one" + ("" if workers else "; nor is any worker")
    if not workers:
        return "no worker is alive: `lowtide worker` runs one, if no autoscaler starts machines just now"
    served = {name for status in workers.values() for name in status.get("models", ())}
    if model and served and model not in served:
        return f"no worker serves {model}: served are {', '.join(sorted(served))}"
    if all(status.get("draining") for status in workers.values()):
        return "every worker is draining: it takes nothing new"
    if retrying := [status["retrying"] for status in workers.values() if status.get("retrying")]:
        newest = min(retrying, key=lambda one: float(one["ago_s"]))
        return f"some requests fail just now and are tried again: {newest['why']}"
    there = counted(len(workers), "worker")
    if any(status.get("busy") for status in workers.values()):
        return f"of {there} some work, on others' requests or on long ones: `lowtide status` tells"
    alive = f"{counted(len(bridges), 'bridge')} and {there}"
    return (
        f"{alive} live and are idle: content that can't be fetched just now is tried again, as workers' logs tell, or "
        "the fleet has other topics than LOWTIDE_TOPIC and LOWTIDE_RESULTS_TOPIC"
    )
