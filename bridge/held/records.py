"""Records of messages in Redis: who is about to publish (lt2:end), and how often it was tried (lt2:try).

Every method raises RedisError when Redis did not confirm: the call may or may not have taken effect, and repeating it
is safe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from redis import Redis

from lowtide.tasks.redis.keys import END_CLAIM_S, END_DONE_S, TRY_S, Keys
from lowtide.tasks.redis.scripts import lua

END_ACKED_S = 600
"""How long a record stays when only copies can come that are at other bridges already. Those look again in time:
lowtide.bridge.held.record_watch.
"""

DONE = b"done"

AT_ONCE = 1000


def forget_subscription(redis: Redis, keys: Keys, subscription: str) -> None:
    """Drop the records of a subscription that is about to be made: an emulator that was started afresh gives new
    messages the ids of old ones, which would be taken for done and acknowledged. Raises RedisError.
    """
    for pattern in (keys.end(f"{subscription}:*"), keys.tries(f"{subscription}:*")):
        names = list(redis.scan_iter(pattern, count=AT_ONCE))
        for start in range(0, len(names), AT_ONCE):
            redis.delete(*names[start : start + AT_ONCE])


class Claim(Enum):
    """Who may publish what a message ends with. Values are those of settle.lua."""

    OURS = 0  # ours, from now for 30 s
    ANOTHERS = 1  # another bridge is about to publish
    DONE = 2  # published: all that is left is to acknowledge


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What Redis knows of a message that was pulled. `claim`: None when nobody is about to publish."""

    claim: Claim | None
    tries: int


class Records:
    """The records as one bridge incarnation writes them. Safe to use from any thread."""

    def __init__(self, redis: Redis, keys: Keys, *, bridge: str) -> None:
        self._redis = redis
        self._keys = keys
        self._ours = f"c:{bridge}".encode()
        self._script = redis.register_script(lua(__package__, "settle"))
        self._count = redis.register_script(lua(__package__, "tries"))

    def look_up(self, messages: Sequence[str]) -> list[Record]:
        """What is known of these, in one round trip."""
        if not messages:
            return []
        ends = [self._keys.end(message) for message in messages]
        values = self._redis.mget([*ends, *(self._keys.tries(message) for message in messages)])
        return [
            Record(claim=self._claim_of(end), tries=int(tries or 0))
            for end, tries in zip(values[: len(ends)], values[len(ends) :], strict=True)
        ]

    def claim(self, messages: Sequence[str]) -> list[Claim]:
        """Before an ending is published, and again when that takes long. A claim of ours is renewed; one that
        lapsed and nobody took is taken again.
        """
        answers = self._run(messages, "claim", END_CLAIM_S)
        return [Claim(answer) for answer in answers]

    def done(self, messages: Sequence[str]) -> None:
        """What they end with is published."""
        self._run(messages, "done", END_DONE_S)

    def keep(self, messages: Sequence[str]) -> None:
        """Those that are done stay so for another seven days: somebody holds a copy."""
        self._run(messages, "keep", END_DONE_S)

    def acknowledged(self, messages: Sequence[str]) -> None:
        """Pub/Sub has surely forgotten them, and the records may go in ten minutes."""
        self._run(messages, "done", END_ACKED_S)

    def count_tries(self, messages: Sequence[str], *, before: Sequence[int]) -> list[int]:
        """One more attempt of each than there were when it was looked up; returns how many there are now. Not `INCR`:
        a call that had no answer is made again.
        """
        counts: list[int] = self._count(
            keys=[self._keys.tries(message) for message in messages], args=[TRY_S, *(tries + 1 for tries in before)]
        )
        return counts

    def _run(self, messages: Sequence[str], what: str, expiry_s: int) -> list[int]:
        if not messages:
            return []
        answers: list[int] = self._script(
            keys=[self._keys.bridges, *(self._keys.end(message) for message in messages)],
            args=[what, self._ours, expiry_s],
        )
        return answers

    def _claim_of(self, value: bytes | str | None) -> Claim | None:
        if value is None:
            return None
        if value == DONE:
            return Claim.DONE
        return Claim.OURS if value == self._ours else Claim.ANOTHERS
