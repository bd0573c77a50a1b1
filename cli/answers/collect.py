"""Publish requests and collect every result: from a subscription of one's own, made before anything is published."""

import contextlib
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

from lowtide.bridge.messages.kinds import Received
from lowtide.bridge.pubsub.client import Pb, Pubsub, PubsubError, PubsubUnavailable
from lowtide.bridge.pubsub.create import Admin
from lowtide.bridge.pubsub.pulls import Pulls
from lowtide.cli.answers.answers import NoResult, Result, failed, is_dead_letter, read_dead_letter, read_result
from lowtide.cli.answers.silence import Silence, duration, why_silent
from lowtide.cli.sources.requests import TRIES, publish_all, request_message
from lowtide.cli.sources.sources import NoSource, Source
from lowtide.config import Settings
from lowtide.config.process.outage import Outage

log = logging.getLogger(__name__)

RUN = "x-lowtide-run"
"""Attribute that tells our results from those of others: callers' `x-` attributes come back."""
SOURCE = "x-lowtide-source"
"""Attribute that tells them apart: a number. Unlike a request id nobody shortens or chooses it."""

PULL_AT_ONCE = 1000
WAIT_S = 0.25
AGAIN_S = 1.0
EXPIRES_S = 24 * 3600
"""The shortest that Pub/Sub allows: what a killed run leaves behind is gone after a day."""
TIMEOUT_S = 1800.0
"""Without any answer. Longer than a fleet needs to start from nothing."""

Answer = tuple[str, Result]
"""A source's number, and what it is answered with."""


class Collection:
    """One run: `sources` through `model`. Each of them is answered, if by `no_answer` after `timeout_s` of silence;
    meanwhile `say` is told what is waited for.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        model: str,
        params: Mapping[str, Any],
        local_files: bool,
        timeout_s: float = TIMEOUT_S,
        say: Callable[[str], None] = log.warning,
        tries: int = TRIES,
        pubsub: Pubsub | None = None,
    ) -> None:
        self._settings = settings
        self._model = model
        self._params = params
        self._local_files = local_files
        self._timeout_s = timeout_s
        self._tries = tries
        self._run = uuid.uuid4().hex
        self._pubsub = pubsub or Pubsub()
        self._silence = Silence(timeout_s=timeout_s, look=self._why_silent, say=say)
        self._away = ""
        """Why Pub/Sub could not be read last time."""
        self._others_answered = False
        """Since ours were last."""
        self._outage = Outage("Pub/Sub does not answer")
        self._failure: Exception | None = None
        self._unsent: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._published = self._noticed = 0
        """Sources that were published, or could not be, and how many of them had been seen to go."""
        self._over = threading.Event()

    def results(self, sources: Sequence[Source]) -> Generator[Result]:
        """One for each source, in the order in which they end. Raises PubsubError: Pub/Sub refuses, or stays away."""
        waiting = {str(number): source for number, source in enumerate(sources)}
        with contextlib.closing(self._pubsub), self._own_subscriptions() as subscriptions:
            pulls = Pulls(self._pubsub, subscriptions)
            publisher = threading.Thread(target=self._publish_all, args=(dict(waiting),), daemon=True)
            publisher.start()
            try:
                yield from self._until_answered(waiting, pulls)
            finally:
                self._over.set()
                pulls.cancel()

    def _until_answered(self, waiting: dict[str, Source], pulls: Pulls) -> Iterator[Result]:
        while waiting:
            for number, result in self._answers(pulls):
                if source := waiting.pop(number, None):
                    yield self._of(source, result)
            if self._failure:
                raise self._failure
            if waiting and self._silence.told(lambda: _named(waiting)):
                why = f"nothing came for {duration(self._timeout_s)}: {self._silence.cause or 'why is not known'}"
                yield from (self._of(source, _failed("no_answer", why)) for source in waiting.values())
                return

    def _of(self, source: Source, result: Result) -> Result:
        return {**result, "request_id": source.request_id, "model": result["model"] or self._model}

    @contextlib.contextmanager
    def _own_subscriptions(self) -> Iterator[Sequence[str]]:
        """Full names. Dead letters count too: a refused request is an answer."""
        admin = Admin(self._pubsub)
        topics = [
            self._settings.topic_path(name) for name in (self._settings.results_topic, self._settings.dead_letter_topic)
        ]
        names = [
            self._settings.subscription_path(f"lowtide-classify-{self._run}-{number}") for number in range(len(topics))
        ]
        try:
            for name, topic in zip(names, topics, strict=True):
                admin.create_subscription(name, topic, expires_s=EXPIRES_S)
            yield names
        finally:
            for name in names:
                with contextlib.suppress(PubsubError):  # it expires
                    admin.delete_subscription(name)

    def _publish_all(self, sources: Mapping[str, Source]) -> None:
        try:
            topic = self._settings.topic_path(self._settings.topic)
            items = takewhile(lambda _: not self._over.is_set(), sources.items())
            for (number, _), sent in publish_all(self._pubsub, topic, items, self._message, tries=self._tries):
                if not isinstance(sent, str):
                    why = "no_source" if isinstance(sent, NoSource) else "refused"
                    self._unsent.put((number, _failed(why, str(sent))))
                self._published += 1
        except Exception as error:  # noqa: BLE001 (the thread's outermost loop: `results` raises it)
            self._failure = error

    def _message(self, numbered: tuple[str, Source]) -> Pb:
        """Raises NoSource."""
        number, source = numbered
        own = {RUN: self._run, SOURCE: number}
        return request_message(source, self._model, self._params, local_files=self._local_files, attributes=own)

    def _answers(self, pulls: Pulls) -> list[Answer]:
        """What there is; waits a moment for the first."""
        answers = self._received(pulls)
        with contextlib.suppress(queue.Empty):
            while True:
                answers.append(self._unsent.get_nowait())
        if answers or self._published > self._noticed:
            self._noticed = self._published
            self._others_answered = False
            self._silence.broken()
        return answers

    def _received(self, pulls: Pulls) -> list[Answer]:
        """Our results among what is there on either subscription."""
        pulls.ask(PULL_AT_ONCE)
        received: list[Received] = []
        try:
            received = pulls.take(WAIT_S) or []
            for name in {message.subscription for message in received}:
                self._pubsub.acknowledge(name, [m.ack_id for m in received if m.subscription == name])
        except PubsubUnavailable as error:
            self._away = str(error)
            self._outage.failed(error)
            time.sleep(AGAIN_S)
        else:
            self._away = ""
            self._outage.over()
        # Acknowledged or not: it may be that only the confirmation was lost, and what comes again is no news.
        ours = [message for message in received if message.attributes.get(RUN) == self._run]
        self._others_answered |= len(ours) < len(received)
        return [(message.attributes.get(SOURCE, ""), _read(message)) for message in ours]

    def _why_silent(self) -> str:
        if self._others_answered and not self._away:
            return "others' requests are answered meanwhile: the fleet works, and ours may be behind theirs"
        return self._away or why_silent(self._settings, self._model)


def _named(waiting: Mapping[str, Source]) -> str:
    """What is waited for, by one example."""
    first = next(iter(waiting.values())).request_id[:100]
    return f"{first} and {len(waiting) - 1:,} more" if len(waiting) > 1 else first


def _read(message: Received) -> Result:
    """What one of our requests ended with; that it can't be read is an end, too."""
    if is_dead_letter(message):
        return read_dead_letter(message)
    try:
        return read_result(message)
    except NoResult as error:
        return _failed("unreadable_result", str(error))


def _failed(type: str, message: str) -> Result:
    return failed("", type, message, model="")
