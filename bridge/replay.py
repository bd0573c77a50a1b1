"""Puts dead letters back as requests: publish, wait for the confirmation, then acknowledge the letter.

A crash between two steps leaves a letter where it was, or a second copy of its request. Letters that are not put back
stay leased until the end: handed back earlier, they would be delivered again and again meanwhile.
"""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from types import TracebackType
from typing import TypeVar

from lowtide.bridge.held.held import Held
from lowtide.bridge.held.leaser import TICK_S, Leaser
from lowtide.bridge.messages.dead_letter import OWN, is_ours
from lowtide.bridge.messages.kinds import Received
from lowtide.bridge.pubsub.client import (
    Pb,
    Pubsub,
    PubsubError,
    PubsubUnavailable,
    message_of,
    publish_each,
    within_publish,
)
from lowtide.bridge.pubsub.pulls import Pulls
from lowtide.config.process.loop import Loop

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

PULL_AT_ONCE = 100
"""Letters may have 10 MB each."""
WAIT_S = 0.25
IDLE_S = 5.0
"""So long without a letter, and there are no more. Pub/Sub answers a pull with nothing now and then."""
LAST_S = 0.5
TRIES = 5
AGAIN_S = 1.0
STUCK_AFTER_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which letters to put back. Times are Unix times at which the letter, not the request, was published."""

    reasons: frozenset[str] = frozenset()
    """Empty: any."""
    foreign: bool = False
    """Also what no bridge has written, and thus has no reason."""
    before_s: float
    after_s: float = 0.0

    def takes(self, letter: Received) -> bool:
        """True for a letter that is to be put back."""
        reason = reason_of(letter)
        chosen = (not self.reasons or reason in self.reasons) if reason else self.foreign
        return chosen and self.after_s <= letter.published_s < self.before_s


class Became(Enum):
    """What became of a letter that was chosen."""

    REPLAYED = "replayed"
    LISTED = "listed"  # a dry run: it would have been replayed
    TRUNCATED = "truncated"  # left alone: its data is lost
    EMPTY = "empty"  # left alone: nothing of it can be published
    REFUSED = "refused"  # left alone: Pub/Sub does not take it


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """A letter that was chosen. `message_id`: of the request that it became; `why`: Pub/Sub refused it."""

    letter: Received
    became: Became
    message_id: str | None = None
    why: str = ""


def reason_of(letter: Received) -> str:
    """Why it is a dead letter; empty for a message that no bridge has written."""
    return letter.attributes.get(f"{OWN}reason", "")


def request_of(letter: Received) -> Pb:
    """The request as it was published first. What it did not say about itself it does not say now: without an id of
    its own it gets a new one, the new message's.
    """
    originals = {name: value for name, value in letter.attributes.items() if not is_ours(name)}
    return message_of(letter.data, originals)


def why_not(letter: Received) -> Became | None:
    """Why a letter can't become a request again; None when it can."""
    if f"{OWN}truncated" in letter.attributes:
        return Became.TRUNCATED
    request = request_of(letter)
    return None if request.data or request.attributes else Became.EMPTY


class Replay:
    """One run over a subscription. A context manager: in its block leases are kept, at its end letters go back.

    `left`: reason → letters that were not chosen.
    """

    def __init__(
        self,
        pubsub: Pubsub,
        *,
        subscription: str,
        topic: str,
        choice: Choice,
        limit: int | None = None,
        dry_run: bool = False,
        idle_s: float = IDLE_S,
        again_s: float = AGAIN_S,
    ) -> None:
        """Full names. `limit`: chosen letters at most. `again_s`: until a call that was not answered is made again."""
        self._pubsub = pubsub
        self._subscription = subscription
        self._topic = topic
        self._choice = choice
        self._limit = limit
        self._dry_run = dry_run
        self._idle_s = idle_s
        self._again_s = again_s
        self._pulls = Pulls(pubsub, [subscription])
        self._held = Held()
        self._leaser = Leaser(pubsub=pubsub, held=self._held)
        self._renewing = Loop("replay-leaser", self._leaser.turn, stuck_after_s=STUCK_AFTER_S, wait_s=TICK_S)
        self._chosen = 0
        self.left: Counter[str] = Counter()

    def __enter__(self) -> "Replay":
        self._renewing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._renewing.stop(TICK_S)
        self._hand_back()
        self._held.add(self._pulls.cancel())
        self._hand_back()

    def run(self) -> Iterator[Handled]:
        """Each chosen letter, when it is done with, until there are no more. Raises PubsubError."""
        came_s, answers = time.monotonic(), False
        while self._room():
            if letters := self._persist(self._pull):
                yield from self._handle(self._held.add(letters))
                came_s, answers = time.monotonic(), False
            elif self._pulls.may_come_again:
                answers = False
            elif answers:
                return
            elif time.monotonic() - came_s >= self._idle_s:
                # It, or this machine, may have stood still: then what came meanwhile is here now.
                self._persist(self._pubsub.check_answers, self._subscription)
                answers = True

    def _pull(self) -> list[Received] | None:
        self._pulls.ask(PULL_AT_ONCE)
        return self._pulls.take(WAIT_S)

    def _hand_back(self) -> None:
        """Everything. A pull that is under way may bring it anew: Google's emulator lets one that was cancelled lease
        messages to nobody.
        """
        while held := self._held.keys():
            self._leaser.hand_back(held)
            with contextlib.suppress(PubsubError):
                self._held.add(self._pulls.take(LAST_S) or [])

    def _room(self) -> bool:
        return self._limit is None or self._chosen < self._limit

    def _handle(self, letters: Sequence[Received]) -> Iterator[Handled]:
        ready: list[Received] = []
        for letter in letters:
            if not self._choice.takes(letter):
                self.left[reason_of(letter)] += 1
            elif (obstacle := why_not(letter)) is not None:
                yield Handled(letter=letter, became=obstacle)
            elif self._room():
                self._chosen += 1
                ready.append(letter)
        if self._dry_run:
            yield from (Handled(letter=letter, became=Became.LISTED) for letter in ready)
        else:
            yield from self._put_back(ready)

    def _put_back(self, letters: Sequence[Received]) -> Iterator[Handled]:
        rest = iter(letters)
        for requests in within_publish(map(request_of, letters)):
            part = list(islice(rest, len(requests)))
            sent = self._persist(publish_each, self._pubsub.publish, self._topic, requests)
            became = list(zip(part, sent, strict=True))
            self._acknowledge([letter.key for letter, each in became if isinstance(each, str)])
            for letter, each in became:
                if isinstance(each, str):
                    yield Handled(letter=letter, became=Became.REPLAYED, message_id=each)
                else:
                    yield Handled(letter=letter, became=Became.REFUSED, why=str(each))

    def _acknowledge(self, keys: Sequence[str]) -> None:
        for subscription, ack_ids in self._held.ack_ids(keys).items():
            self._persist(self._pubsub.acknowledge, subscription, ack_ids)
        self._held.release(keys)

    def _persist(self, call: Callable[..., Answer], *args: object) -> Answer:
        for attempt in range(1, TRIES):
            try:
                return call(*args)
            except PubsubUnavailable as error:
                log.warning("Pub/Sub: %s; trying again", error)
                time.sleep(attempt * self._again_s)
        return call(*args)
