"""Every move of a message between the lists and `unacked`: one atomic step each, in Lua."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from redis import Redis

from lowtide.tasks.keys import LOSS_S, Keys
from lowtide.tasks.queues import PRIORITY_STEPS, lists_of
from lowtide.tasks.transport.envelope import Revived, Unreadable, revive
from lowtide.tasks.transport.ledger import Held
from lowtide.tasks.transport.room import TAKE_MAX_BYTES, Budget, Turns, is_high

log = logging.getLogger(__name__)

RUN_S = 30
HELD_S = 24 * 3600
"""A machine that never comes back leaves its list of tags behind for this long."""
ASIDE_MAX_MESSAGES = 256
"""Of one step, those that are not due yet: about 10 µs each, while Redis serves nobody else."""
ASIDE_STEPS = 16
"""Of one take. An idle worker looks again in a second at the latest: what is due behind many others would wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A message that was taken: `raw` is the JSON that the publisher wrote."""

    queue: str
    tag: str
    requests: int
    raw: bytes


class Moves:
    """The moves of one fleet. Safe to call from any thread, as its client is. Raises RedisError."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.redis = redis
        self.keys = keys
        self._take = redis.register_script(due_lua() + _lua("take"))
        self._acknowledge = redis.register_script(_lua("acknowledge"))
        self._look = redis.register_script(_lua("look"))
        self._restore = redis.register_script(_lua("restore"))
        self._touch = redis.register_script(_lua("touch"))
        self._postpone = redis.register_script(_lua("postpone"))

    def take(
        self, worker: str, *, queues: Sequence[str], seconds: Sequence[float], budget: Budget, turns: Turns
    ) -> list[Taken]:
        """Take what fits, `queues` in order, `.high` ones first; `seconds` are theirs per request. What is not due yet
        goes aside, and what has become due comes back to the end of its list.
        """
        lists = [self.keys.queue(name) for queue in queues for name in lists_of(queue)]
        limits = [budget.messages, budget.work_s, TAKE_MAX_BYTES, turns.left_s, turns.turn_s, turns.least_s]
        shape = [len(PRIORITY_STEPS), sum(map(is_high, queues)), HELD_S, ASIDE_MAX_MESSAGES]
        for _ in range(ASIDE_STEPS):
            more, flat = self._take(
                keys=[*self._held(worker), self.keys.scheduled, *lists], args=[*limits, *shape, *seconds]
            )
            if not more:
                break
        return [
            Taken(queue=queues[int(number) - 1], tag=tag.decode(), requests=int(requests), raw=raw)
            for number, tag, requests, raw in zip(*[iter(flat)] * 4, strict=True)
        ]

    def acknowledge(self, worker: str, tags: Sequence[str]) -> None:
        """Forget messages whose work is done."""
        self._acknowledge(keys=self._held(worker), args=tags)

    def postpone(self, worker: str, tag: str, *, due: float) -> bool:
        """Set a message aside until `due`, Unix time by Redis' clock; False when that has come."""
        return bool(self._postpone(keys=[*self._held(worker), self.keys.scheduled], args=[tag, due]))

    def give_back(self, worker: str, tags: Iterable[str], *, lost: bool = False) -> int:
        """Put messages that `worker` holds back to the head of their lists, the first of `tags` to be served first;
        what another holds by now stays with it. `lost` counts each as a loss. Returns how many went back.
        """
        return sum(
            self._move(tag, seen="held", held=self.keys.held(worker), lost=lost) for tag in reversed(tuple(tags))
        )

    def reap(self, tag: str, score: float | None) -> int:
        """Put a message back whose score is still the one that was seen (None: it had none), and count the loss."""
        return self._move(tag, seen="none" if score is None else repr(score), held="", lost=True)

    def touch(self, worker: str, held: Sequence[Held]) -> int:
        """Say that the holder of these lives; returns how many of them Redis still counts as held."""
        runs = [self.keys.run(task) for task in dict.fromkeys(item.task for item in held) if task]
        alive: int = self._touch(
            keys=[self.keys.unacked_index, self.keys.held(worker), *runs],
            args=[RUN_S, HELD_S, *(item.tag for item in held)],
        )
        return alive

    def look(self) -> dict[str, float | None]:
        """Every message that is held: its score, None when it has none. A score may be of no message."""
        tags, scored = self._look(keys=[self.keys.unacked, self.keys.unacked_index])
        scores = {tag.decode(): float(score) for tag, score in zip(*[iter(scored)] * 2, strict=True)}
        return {**dict.fromkeys((tag.decode() for tag in tags if tag.decode() not in scores), None), **scores}

    def held_by(self, worker: str) -> list[str]:
        """The tags that a worker of this name took and did not settle, oldest first."""
        tags: Any = self.redis.zrange(self.keys.held(worker), 0, -1)
        return [tag.decode() for tag in tags]

    def _held(self, worker: str) -> list[str]:
        return [self.keys.unacked, self.keys.unacked_index, self.keys.held(worker)]

    def _move(self, tag: str, *, seen: str, held: str, lost: bool) -> int:
        revived = self._revived(tag)
        moved: int = self._restore(
            keys=[
                self.keys.unacked,
                self.keys.unacked_index,
                revived.list if revived else "",
                self.keys.loss(revived.task) if revived else "",
                held,
            ],
            args=[tag, revived.raw if revived else "", seen, LOSS_S if lost and revived and revived.task else 0],
        )
        return moved

    def _revived(self, tag: str) -> Revived | None:
        entry: Any = self.redis.hget(self.keys.unacked, tag)
        if entry is None:
            return None
        try:
            return revive(entry)
        except Unreadable as error:
            log.error("message %s can never run and is dropped: %s", tag, error)
            return None


def due_lua() -> str:
    """What tells Lua when a message is due: `due_at(raw)`."""
    return _lua("due")


def _lua(name: str) -> str:
    return files(__package__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
