"""How much a worker may take, and from which queue first. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lowtide.tasks.queues import HIGH, PREFIX

TAKE_MAX_MESSAGES = 64
TAKE_MAX_BYTES = 8 * 1024 * 1024
"""Of one take: Redis serves nobody else while it copies, measured 4 to 5 ms per MiB on two shared cores."""

CHUNKS_OF_ROOM = 2
"""One chunk on the device and one behind it."""

MESSAGES_PER_TURN = 64
"""However small: without a bound, a queue of no known cost would keep its turn for ever."""


def is_high(queue: str) -> bool:
    """True for a queue that is served before all others."""
    return queue.startswith(PREFIX) and queue.endswith(HIGH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one take may bring: messages and seconds of work. The last message may go over the seconds, so that an
    idle worker can take a task of any size.
    """

    messages: int
    work_s: float

    @property
    def empty(self) -> bool:
        """True when nothing may be taken."""
        return self.messages <= 0 or self.work_s <= 0

    @classmethod
    def of(cls, *, prefetch: int, held: int, limit_s: float, work_s: float) -> "Budget":
        """What is left beside `held` messages of `work_s` seconds. `prefetch` 0 is no limit, as in Celery."""
        messages = min(prefetch - held, TAKE_MAX_MESSAGES) if prefetch else TAKE_MAX_MESSAGES
        return cls(messages=messages, work_s=limit_s - work_s)


NOTHING = Budget(messages=0, work_s=0.0)


class Turns:
    """Whose turn it is among the queues: each gets one chunk of work before the next, so that a door of single
    requests and a door of full chunks get the same share of the device. Only a message that is larger than a turn
    gets more: its excess is not held against its queue.
    """

    def __init__(self, turn_s: float) -> None:
        self.turn_s = turn_s
        self.least_s = turn_s / MESSAGES_PER_TURN
        self._queue: str | None = None
        self._spent_s = 0.0

    @property
    def left_s(self) -> float:
        """What is left of the turn of the first queue in `order` that isn't of high priority."""
        return self.turn_s - self._spent_s if self._spent_s < self.turn_s else self.turn_s

    def order(self, queues: Iterable[str]) -> list[str]:
        """`.high` first, then the others, beginning with the one whose turn it is."""
        names = list(queues)
        others = [name for name in names if not is_high(name)]
        if self._queue in others:
            at = others.index(self._queue) + (self._spent_s >= self.turn_s)
            others = others[at:] + others[:at]
        return [name for name in names if is_high(name)] + others

    def served(self, taken: Sequence[tuple[str, float]]) -> None:
        """Note what was taken: queue and seconds of work, in the order in which it was taken."""
        for queue, work_s in taken:
            if is_high(queue):
                continue
            if queue != self._queue:
                self._queue, self._spent_s = queue, 0.0
            self._spent_s += max(work_s, self.least_s)
