"""`Run`: one task's requests on their way through the engine, all at once or, after a loss, one by one."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from redis import RedisError

from lowtide.tasks.blob import together
from lowtide.tasks.errors import EngineStopped, HandBack, InvalidRequest
from lowtide.tasks.gate import GATE
from lowtide.tasks.losses import STRIKES_MAX, WORKER_LOST, History, Losses
from lowtide.tasks.port import plugged
from lowtide.tasks.wire import CONTENT_LOST, InferenceRequest, Outcome

log = logging.getLogger(__name__)

PAUSE_S = 1.0
"""Before a task goes back because Redis does not answer: it would be here again at once."""


class Run:
    """Used once, from one thread."""

    def __init__(
        self,
        task: str,
        requests: Sequence[Mapping[str, Any]],
        losses: Callable[[], Losses],
        *,
        blob: Callable[[], bytes | None] | None = None,
    ) -> None:
        """`losses` is asked only when something was, or is about to be, lost: as a rule a task doesn't need them.
        `blob` brings the content beside the task; without it, there can be none.
        """
        self._task = task
        self._given = requests
        self._blob = blob
        self._losses_of = losses
        self._count = len(requests)
        self._outcomes: dict[int, Outcome] = {}
        self._requests: dict[int, InferenceRequest] = {}

    def outcomes(self, *, redelivered: bool) -> list[Outcome]:
        """One per request, in order. `redelivered`: somebody held the task before. Raises HandBack."""
        try:
            self._read()
            history = self._losses.look(self._task) if redelivered else History()
            self._outcomes.update(history.outcomes)
            if history.losses:
                log.warning("task %s was lost %d times: its requests run alone", self._task, history.losses)
                with GATE.alone():
                    self._one_by_one(history)
            else:
                with GATE.together():
                    self._all_at_once()
        except RedisError as error:
            time.sleep(PAUSE_S)
            raise HandBack(f"Redis can't be asked for content, or what befell the task: {error}") from error
        return [self._outcomes[index] for index in range(self._count)]

    def _read(self) -> None:
        for index, request in enumerate(together(self._given, self._blob) if self._blob else self._given):
            if request is None:
                self._outcomes[index] = Outcome.failed(CONTENT_LOST, "its content is not in Redis any more", retry=True)
                continue
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
        left = self._left()
        futures = plugged().submit(list(left.values()))
        done: dict[int, Outcome] = {}
        stopped: list[EngineStopped] = []
        for index, future in zip(left, futures, strict=True):
            try:
                done[index] = future.result()
            except EngineStopped as error:
                stopped.append(error)
        if stopped:
            self._note_end(done, suspect=any(error.suspect for error in stopped))
            raise stopped[0]
        self._outcomes.update(done)

    def _note_end(self, done: Mapping[int, Outcome], *, suspect: bool) -> None:
        """The engine stopped in the middle. Without Redis it all runs again, elsewhere."""
        try:
            if done:
                self._losses.keep(self._task, done)
            if suspect:
                self._losses.lost(self._task)
        except RedisError as error:
            log.warning("task %s goes back without what it has: %s", self._task, error)

    def _one_by_one(self, history: History) -> None:
        for index, request in self._left().items():
            if history.strikes.get(index, 0) >= STRIKES_MAX:
                log.error("request %d of task %s took its worker with it %d times", index, self._task, STRIKES_MAX)
                self._outcomes[index] = _worker_lost()
            else:
                self._outcomes[index] = self._alone(index, request, after=history.losses)

    def _alone(self, index: int, request: InferenceRequest, *, after: int) -> Outcome:
        self._losses.mark(self._task, index, after=after)
        [future] = plugged().submit([request])
        try:
            outcome = future.result()
        except EngineStopped:
            self._losses.absolve(self._task, index, after=after)
            raise
        self._losses.absolve(self._task, index, outcome, after=after)
        return outcome


def _worker_lost() -> Outcome:
    message = f"the worker was lost {STRIKES_MAX} times while this request ran alone in it"
    return Outcome.failed(WORKER_LOST, message)
