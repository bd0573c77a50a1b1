"""`Run`: one task's requests on their way through the engine, all at once or, after a loss, in solo mode.

In solo mode nothing else runs in the process. √n requests of n run at a time; if that costs the process, they run one
by one from then on. After an accident this takes √n runs instead of n; a request that is to blame costs one loss more.
Groups of other sizes take more runs, and each further level of groups costs one more loss.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from math import isqrt
from typing import Any

from redis import RedisError

from lowtide.tasks.chunks.blob import Blobs, lies_beside, together
from lowtide.tasks.errors import ContentLost, EngineStopped, InvalidRequest
from lowtide.tasks.port import plugged
from lowtide.tasks.running.gate import GATE
from lowtide.tasks.running.losses import STRAY_MAX, STRIKES_MAX, WORKER_LOST, History, Losses, Mark
from lowtide.tasks.wire.outcome import Outcome
from lowtide.tasks.wire.request import InferenceRequest

log = logging.getLogger(__name__)

FETCHING = threading.Lock()
"""Held by a task that runs alone, from before it fetches: the content of one of them at a time is in memory."""
GONE = "the content of this task is not in Redis any more"


class Run:
    """Used once, from one thread."""

    def __init__(
        self,
        task: str,
        requests: Sequence[Mapping[str, Any]],
        losses: Callable[[], Losses],
        *,
        blobs: Callable[[], Blobs] | None = None,
    ) -> None:
        """`losses` is asked only when something was, or is about to be, lost: as a rule a task doesn't need them.
        `blobs` has the content beside the task; without it, there can be none.
        """
        self._task = task
        self._given = requests
        self._blobs_of = blobs
        self._losses_of = losses
        self._count = len(requests)
        self._outcomes: dict[int, Outcome] = {}
        self._requests: dict[int, InferenceRequest] = {}

    def outcomes(self, *, redelivered: bool) -> list[Outcome]:
        """One per request, in order. `redelivered`: somebody held the task before. Raises ContentLost; and HandBack and
        RedisError, after which the task is to go back.
        """
        history = self._losses.look(self._task) if redelivered else History()
        self._outcomes.update(history.outcomes)
        self._give_up(history.strikes)
        if history.losses:
            log.warning("task %s was lost %d times: its requests run alone", self._task, history.losses)
            self._miss_content()  # first: its sender need not wait for those that run alone before it
            with FETCHING:
                self._read()
                self._solo(history)
        else:
            self._read()
            with GATE.together():
                self._all_at_once()
        return [self._outcomes[index] for index in range(self._count)]

    def _give_up(self, strikes: Mapping[int, int]) -> None:
        for index, count in strikes.items():
            if count >= STRIKES_MAX and index not in self._outcomes:
                log.error("request %d of task %s took its worker with it %d times", index, self._task, count)
                self._outcomes[index] = _worker_lost()

    def _wanted(self) -> dict[int, Mapping[str, Any]]:
        """What has no outcome, and no other: it may need content that is gone."""
        return {index: request for index, request in enumerate(self._given) if index not in self._outcomes}

    def _miss_content(self) -> None:
        """Raises ContentLost. Brings nothing."""
        if self._blobs_of and lies_beside(self._wanted().values()) and not self._blobs_of().has(self._task):
            raise ContentLost(GONE)

    def _read(self) -> None:
        wanted = self._wanted()
        given = list(wanted.values())
        read = together(given, lambda: blobs().get(self._task)) if (blobs := self._blobs_of) else given
        for index, request in zip(wanted, read, strict=True):
            if request is None:
                raise ContentLost(GONE)
            try:
                self._requests[index] = InferenceRequest.parse(request, travelled=True)
            except InvalidRequest as error:
                self._outcomes[index] = Outcome.failed(error.type, str(error))

    @cached_property
    def _losses(self) -> Losses:
        return self._losses_of()

    def _left(self) -> dict[int, InferenceRequest]:
        return {index: request for index, request in self._requests.items() if index not in self._outcomes}

    def _all_at_once(self) -> None:
        done, stopped = _done(self._left())
        if stopped:
            self._note_end(done, implicated=_is_implicated(stopped))
            raise stopped[0]
        self._outcomes.update(done)

    def _note_end(self, done: Mapping[int, Outcome], *, implicated: bool) -> None:
        """The engine stopped in the middle. Without Redis it all runs again, elsewhere."""
        try:
            if done:
                self._losses.keep(self._task, done)
            if implicated:
                self._losses.lost(self._task)
        except RedisError as error:
            log.warning("task %s goes back without what it has: %s", self._task, error)

    def _solo(self, history: History) -> None:
        # Slow servers must not keep the device from others. But what ends the process is found by its mark, and there
        # is none before the gate is closed.
        if history.stray < STRAY_MAX:
            self._fetch()
        with GATE.alone():
            for mark, requests in _in_turn(self._left(), self._count, history):
                self._alone(mark, requests)

    def _fetch(self) -> None:
        """Bring content, as far as there is memory for it; it is decoded after the mark."""
        left = self._left()
        failed: dict[int, Outcome] = {}
        for index, found in zip(left, plugged().fetch(list(left.values())), strict=True):
            if isinstance(found, Outcome):
                failed[index] = found
            else:
                self._requests[index] = found
        if failed:
            self._losses.keep(self._task, failed)
            self._outcomes.update(failed)

    def _alone(self, mark: Mark, requests: Mapping[int, InferenceRequest]) -> None:
        self._losses.mark(self._task, mark)
        done, stopped = _done(requests)
        if mark.is_group and _is_implicated(stopped):
            self._note_end(done, implicated=True)  # and the mark stays, so that the group is split
            raise stopped[0]
        self._losses.absolve(self._task, mark, done)
        if stopped:
            raise stopped[0]
        self._outcomes.update(done)


def _in_turn(
    left: Mapping[int, InferenceRequest], count: int, history: History
) -> Iterator[tuple[Mark, Mapping[int, InferenceRequest]]]:
    """What of `left` runs alone, one after the other. Groups are fixed by `count`, the task's requests, and not by what
    is left of them: every worker must mean the same by a mark.
    """
    after, size = history.losses, isqrt(count)
    for number, items in groupby(left.items(), key=lambda item: item[0] // size):
        members = dict(items)
        if len(members) > 1 and number not in history.split:
            yield Mark(place=number, after=after, is_group=True), members
        else:
            for index, request in members.items():
                yield Mark(place=index, after=after), {index: request}


def _done(requests: Mapping[int, InferenceRequest]) -> tuple[dict[int, Outcome], list[EngineStopped]]:
    """What became of requests that ran together; and why others have no outcome."""
    futures = plugged().submit(list(requests.values()))
    done: dict[int, Outcome] = {}
    stopped: list[EngineStopped] = []
    for index, future in zip(requests, futures, strict=True):
        try:
            done[index] = future.result()
        except EngineStopped as error:
            stopped.append(error)
    return done, stopped


def _is_implicated(stopped: Collection[EngineStopped]) -> bool:
    return any(error.implicated for error in stopped)


def _worker_lost() -> Outcome:
    message = f"the worker was lost {STRIKES_MAX} times while this request ran alone in it"
    return Outcome.failed(WORKER_LOST, message)
