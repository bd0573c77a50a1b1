"""Publish requests and collect every result: from a subscription of one's own, made before anything is published."""

import contextlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from lowtide.bridge.create import Admin
from lowtide.bridge.messages import Received
from lowtide.bridge.pubsub import Pb, Pubsub, PubsubUnavailable, grouped, message_of
from lowtide.bridge.pulls import Pulls
from lowtide.cli.sources import NoSource, Source
from lowtide.config import Settings

log = logging.getLogger(__name__)

RUN = "x-lowtide-run"
"""Attribute that tells our results from those of others: callers' `x-` attributes come back."""

PULL_AT_ONCE = 1000
WAIT_S = 0.25
EXPIRES_S = 24 * 3600
"""The shortest that Pub/Sub allows: what a killed run leaves behind is gone after a day."""

Result = Mapping[str, Any]


class Collection:
    """One run: `sources` through `model`; `on_result` is called once for each, in the order in which they end."""

    def __init__(
        self, settings: Settings, *, model: str, params: Mapping[str, Any], local_files: bool, tries: int = 5
    ) -> None:
        self._settings = settings
        self._model = model
        self._params = params
        self._local_files = local_files
        self._tries = tries
        self._run = uuid.uuid4().hex
        self._pubsub = Pubsub()
        self._failure: Exception | None = None

    def results(self, sources: Sequence[Source]) -> Iterator[Result]:
        """Every result, once. Raises PubsubError when Pub/Sub refuses, or stays away."""
        waiting = {source.request_id for source in sources}
        with self._own_subscriptions() as readers:
            pulls = Pulls(self._pubsub, list(readers))
            unreadable: list[Result] = []
            publisher = threading.Thread(target=self._publish_all, args=(sources, unreadable.append), daemon=True)
            publisher.start()
            while waiting:
                for result in (*self._take(unreadable), *self._received(pulls, readers)):
                    if result["request_id"] in waiting:
                        waiting.discard(result["request_id"])
                        yield result
                if self._failure:
                    raise self._failure
            publisher.join()
            pulls.cancel()
        self._pubsub.close()

    @contextlib.contextmanager
    def _own_subscriptions(self) -> Iterator[Mapping[str, Callable[[Received], Result]]]:
        """Subscription → how its messages are read. Dead letters count too: a refused request is an answer."""
        admin = Admin(self._pubsub)
        topics = {
            self._settings.topic_path(self._settings.results_topic): read_result,
            self._settings.topic_path(self._settings.dead_letter_topic): read_dead_letter,
        }
        readers = {}
        for number, (topic, read) in enumerate(topics.items()):
            name = self._settings.subscription_path(f"lowtide-classify-{self._run}-{number}")
            admin.create_subscription(name, topic, expires_s=EXPIRES_S)
            readers[name] = read
        try:
            yield readers
        finally:
            for name in readers:
                admin.delete_subscription(name)

    def _publish_all(self, sources: Iterable[Source], unreadable: Callable[[Result], None]) -> None:
        try:
            topic = self._settings.topic_path(self._settings.topic)
            for messages in grouped(self._messages(sources, unreadable)):
                self._until_done(self._pubsub.publish, topic, messages)
        except Exception as error:  # noqa: BLE001 (the thread's outermost loop: `results` raises it)
            self._failure = error

    def _messages(self, sources: Iterable[Source], unreadable: Callable[[Result], None]) -> Iterator[Pb]:
        for source in sources:
            try:
                yield request_message(
                    source, self._model, self._params, local_files=self._local_files, attributes={RUN: self._run}
                )
            except NoSource as error:
                unreadable({**_FAILED, "request_id": source.request_id, "model": self._model, "error": _why(error)})

    def _received(self, pulls: Pulls, readers: Mapping[str, Callable[[Received], Result]]) -> list[Result]:
        """Our results among what is there on any subscription; waits a moment for the first."""
        pulls.ask(PULL_AT_ONCE)
        try:
            received = pulls.take(WAIT_S) or []
        except PubsubUnavailable as error:
            log.warning("Pub/Sub: %s; trying on", error)
            time.sleep(1.0)
            return []
        for name in {message.subscription for message in received}:
            self._until_done(self._pubsub.acknowledge, name, [m.ack_id for m in received if m.subscription == name])
        return [readers[m.subscription](m) for m in received if m.attributes.get(RUN) == self._run]

    def _until_done(self, call: Callable[..., object], *args: object) -> None:
        for attempt in range(self._tries):
            try:
                call(*args)
            except PubsubUnavailable as error:
                if attempt + 1 == self._tries:
                    raise
                log.warning("Pub/Sub: %s; trying again in %d s", error, 2**attempt)
                time.sleep(2**attempt)
            else:
                return

    @staticmethod
    def _take(results: list[Result]) -> list[Result]:
        taken = results[:]
        del results[: len(taken)]
        return taken


def request_message(
    source: Source,
    model: str | None,
    params: Mapping[str, Any],
    *,
    local_files: bool = False,
    attributes: Mapping[str, str] | None = None,
) -> Pb:
    """The message that asks for `source`. Raises NoSource."""
    data, fields = source.message(local_files=local_files)
    fields = {**fields, **({"model": model} if model else {})}
    if "uri" in fields:
        body = {**fields, **({"params": dict(params)} if params else {})}
        return message_of(json.dumps(body).encode(), dict(attributes or {}))
    own = {**fields, **({"params": json.dumps(params)} if params else {})}
    return message_of(data, {**own, **(attributes or {})})


def read_result(message: Received) -> Result:
    """The result in a message of the results topic."""
    result: Result = json.loads(message.data)
    return result


def read_dead_letter(message: Received) -> Result:
    """A dead letter as a failed result."""
    given = message.attributes
    error = {"type": given.get("lowtide_reason", "dead_letter"), "message": given.get("lowtide_error", "")}
    return {
        **_FAILED,
        "request_id": given.get("lowtide_request_id", ""),
        "message_id": message.message_id,
        "model": given.get("model", ""),
        "error": error,
    }


_FAILED: Result = {
    "request_id": "",
    "message_id": "",
    "model": "",
    "model_version": "",
    "status": "failed",
    "outputs": [],
    "error": None,
    "attempts": 1,
    "timings_ms": {},
}


def _why(error: NoSource) -> dict[str, str]:
    return {"type": "no_source", "message": str(error)}
