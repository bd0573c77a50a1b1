"""Moves tasks between the queues and the workers that hold them; each move is one atomic Lua script."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from lowtide.tasks.held.ledger import HeldTask
from lowtide.tasks.held.room import TAKE_MAX_BYTES, Budget, Turns, is_high
from lowtide.tasks.queues import PRIORITY_STEPS, heard_of, lists_of, model_of
from lowtide.tasks.redis.keys import LOSS_S, PROTOCOL, Keys
from lowtide.tasks.redis.registry import Register
from lowtide.tasks.redis.scripts import lua
from lowtide.tasks.waking.tokens import push_tokens, tokens_lua

log = logging.getLogger(__name__)

SWEEP_MAX_MESSAGES = 64
SWEEP_MAX_BYTES = 8 * 1024 * 1024
"""Of one step of a sweep, after which Redis serves others."""
ASIDE_MAX_MESSAGES = 256
"""Of one step, those that are not due yet: about 10 µs each, while Redis serves nobody else."""
ASIDE = 2
"""What the take says when all that it found went aside."""
ASIDE_STEPS = 16
"""Of one take. An idle worker looks again in a second at the latest: what is due behind many others would wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A message that was taken: `raw` is the JSON that the publisher wrote, `task` its Celery id ("" without one).
    `again`: somebody held it before. Bytes of `task` that are no UTF-8 are surrogates.
    """

    queue: str
    incarnation: str
    tag: str
    requests: int
    task: str
    again: bool
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """What a take brought. `more`: the queues were not empty afterwards, whether or not there was room."""

    messages: Sequence[Taken] = ()
    more: bool = False


class Moves:
    """The moves of one fleet. `incarnation`: of the worker that holds the messages. Safe to call from any thread, as
    its client is. Raises RedisError.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.redis = redis
        self.keys = keys
        self._take = redis.register_script(due_lua() + tokens_lua() + lua(__package__, "take"))
        self._acknowledge = redis.register_script(lua(__package__, "held", "acknowledge"))
        self._hand_back = redis.register_script(lua(__package__, "held", "hand_back"))
        self._postpone = redis.register_script(lua(__package__, "held", "postpone"))
        self._sweep = redis.register_script(lua(__package__, "held", "sweep"))
        self._free = redis.register_script(lua(__package__, "held", "free"))

    def take(
        self,
        incarnation: str,
        *,
        queues: Sequence[str],
        seconds: Sequence[float],
        budget: Budget,
        turns: Turns,
        steps: int = ASIDE_STEPS,
    ) -> Took | None:
        """Take what fits, `queues` in order, `.high` ones first; `seconds` are theirs per request. What is not due yet
        goes aside, in so many `steps` at most, and what has become due comes back to the end of its list. None: the
        incarnation is not registered, or another protocol is spoken.
        """
        lists = [self.keys.queue(name) for queue in queues for name in lists_of(queue)]
        number = {model: at for at, model in enumerate(heard_of(queues), start=1)}
        wakes = list(map(self.keys.wake, number))
        of_model = [number.get(model_of(queue) or "", 0) for queue in queues]
        limits = [budget.messages, budget.work_s, TAKE_MAX_BYTES, turns.left_s, turns.turn_s, turns.least_s]
        shape = [len(PRIORITY_STEPS), sum(map(is_high, queues)), ASIDE_MAX_MESSAGES]
        keys = [self.keys.workers, *self._held(incarnation), self.keys.scheduled, self.keys.protocol, *lists]
        for _ in range(steps):
            state, flat = self._take(
                keys=[*keys, *wakes],
                args=[*limits, *shape, incarnation, self.keys.loss(""), PROTOCOL, *seconds, *of_model],
            )
            if state < 0:
                return None
            if state < ASIDE:
                break
        messages = [
            Taken(
                queue=queues[int(number) - 1],
                incarnation=incarnation,
                tag=tag.decode(),
                requests=int(requests),
                task=task.decode(errors="surrogateescape"),
                again=bool(again),
                raw=raw,
            )
            for number, tag, requests, task, again, raw in zip(*[iter(flat)] * 6, strict=True)
        ]
        return Took(messages=messages, more=state > 0)

    def anything(self, queues: Sequence[str]) -> bool:
        """Whether a take may find something. O(queues), one command: each idle worker asks every second."""
        lists = [self.keys.queue(name) for queue in queues for name in lists_of(queue)]
        return bool(self.redis.exists(self.keys.scheduled, *lists))

    def pass_on(self, key: str) -> None:
        """Wake another in the place of this worker. `key`: the token's."""
        push_tokens(self.redis, key)

    def acknowledge(self, incarnation: str, done: Iterable[HeldTask]) -> None:
        """Forget messages whose work is done."""
        names = [name.encode(errors="surrogateescape") for held in done for name in (held.tag, held.task)]
        before = [self.keys.loss(""), self.keys.strike(""), self.keys.part("")]
        self._acknowledge(keys=self._held(incarnation), args=[incarnation, *before, *names])

    def postpone(self, incarnation: str, tag: str, *, due: float) -> bool:
        """Set a message aside until `due`, Unix time by Redis' clock; False when that has come."""
        return bool(self._postpone(keys=[*self._held(incarnation), self.keys.scheduled], args=[incarnation, tag, due]))

    def hand_back(self, incarnation: str, tags: Sequence[str]) -> int:
        """Return messages to the head of their lists, the first of `tags` to be served first. Only what this
        incarnation still holds; nothing is counted as lost. Returns how many went back.
        """
        moved: int = self._hand_back(
            keys=self._held(incarnation), args=[incarnation, self.keys.loss(""), LOSS_S, *reversed(tags)]
        )
        return moved

    def sweep(self, incarnation: str, beat: float, *, most: int = SWEEP_MAX_MESSAGES) -> tuple[int, bool]:
        """Give a worker up whose last heartbeat is still `beat`, or that was given up already, and `most` of what it
        held back, each counted as a loss; with the last of it, remove the worker from the register. Returns how many
        went back, and whether there is more. The log tells of what can't go back, once: it is put aside.
        """
        register = Register.of(self.keys, "worker")
        moved, more, stuck = self._sweep(
            keys=[*register.both, *self._held(incarnation), self.keys.stuck, self.keys.suspects],
            args=[incarnation, repr(beat), most, SWEEP_MAX_BYTES, self.keys.loss(""), LOSS_S],
        )
        if stuck:
            why = "something else than a list has the name of their queue; until it is gone they are kept in"
            log.error("%d tasks of worker %s can't go back: %s %s", stuck, incarnation, why, self.keys.stuck)
        return int(moved), bool(more)

    def free(self) -> int:
        """Give back some of what could not go back before and can now. Returns how many. O(1), as a rule of nothing."""
        keys = [self.keys.stuck, self.keys.holders]
        return int(self._free(keys=keys, args=[SWEEP_MAX_MESSAGES, SWEEP_MAX_BYTES, self.keys.loss(""), LOSS_S]))

    def sweep_whole(self, incarnation: str) -> int:
        """The same with all that a worker held which is known to be dead. Returns how many went back."""
        total, more = 0, True
        while more and (beat := self.redis.zscore(self.keys.workers, incarnation)) is not None:
            moved, more = self.sweep(incarnation, float(beat))
            total += moved
        return total

    def held_by(self, incarnation: str) -> list[str]:
        """The tags of what this incarnation took and did not release."""
        tags: Any = self.redis.hkeys(self.keys.held(incarnation))
        return [tag.decode() for tag in tags]

    def count_held(self, incarnation: str) -> int:
        """How many of them there are."""
        return int(self.redis.hlen(self.keys.held(incarnation)))

    def _held(self, incarnation: str) -> list[str]:
        return [self.keys.held(incarnation), self.keys.holders]


def due_lua() -> str:
    """What tells Lua when a message is due: `due_at(raw)`."""
    return lua(__package__, "due")
