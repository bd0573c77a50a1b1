"""The user's side: a publisher with known requests, and a collector that counts every copy of every answer."""

import itertools
import json
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

from google.api_core.exceptions import GoogleAPICallError
from google.api_core.retry import Retry, if_transient_error
from google.cloud import pubsub_v1

from tests.drills.request import stored_request_of
from tests.drills.storage import AFTER_S

TICK_S = 0.05
PULL_S = 2.0
AGAIN_S = 0.2
CONFIRM_S = 180.0
REQUESTS, RESULTS, DEAD_LETTERS = "lowtide-requests", "lowtide-results", "lowtide-dead-letters"

TRYING_ON = Retry(predicate=if_transient_error, initial=0.1, maximum=1.0, timeout=CONFIRM_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request that was published. `deed`: what it has the model do, or the bucket that its content is in. Times are
    monotonic seconds.
    """

    number: int
    deed: str
    sent_s: float
    confirmed: Future[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One answer. `ending`: a result's status and error type, or a dead letter's reason; `published`: Unix time;
    `message_id`: of the request, "" for a dead letter, which does not tell.
    """

    request: int
    message_id: str
    ending: str
    attempts: int
    right: bool
    came_s: float
    published: float


class Load:
    """Publishes `per_s` requests a second between `start` and `stop`, their deeds in turn."""

    def __init__(self, project: str, numbers: Iterator[int]) -> None:
        self.sent: dict[int, Sent] = {}
        self._publisher = pubsub_v1.PublisherClient()
        self._topic = self._publisher.topic_path(project, REQUESTS)
        self._numbers = numbers
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, per_s: float, *, at_most: int | None = None, deeds: Sequence[str] = ("answer",)) -> None:
        self._stopped.clear()
        self._thread = threading.Thread(target=self._run, args=(per_s, at_most, deeds), name="load", daemon=True)
        self._thread.start()

    def publish(self, deed: str = "answer") -> int:
        number = next(self._numbers)
        stored = deed in AFTER_S
        data = json.dumps(stored_request_of(number, deed)) if stored else str(number)
        attributes = {} if stored or deed == "answer" else {"params": json.dumps({"do": deed})}
        confirmed = self._publisher.publish(
            self._topic, data.encode(), retry=TRYING_ON, request_id=str(number), **attributes
        )
        self.sent[number] = Sent(number=number, deed=deed, sent_s=time.monotonic(), confirmed=confirmed)
        return number

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def join(self) -> None:
        """Wait until it has published as much as it was asked for."""
        assert self._thread
        self._thread.join()

    def stop(self) -> None:
        """Publish no more, and wait until Pub/Sub has confirmed what was published."""
        self._stopped.set()
        self.join()
        for sent in list(self.sent.values()):
            sent.confirmed.result(CONFIRM_S)

    def forget_before(self, moment_s: float) -> None:
        """Nobody can tell what became of these: the emulator that took them took them along."""
        for number, sent in list(self.sent.items()):
            if sent.sent_s < moment_s:
                del self.sent[number]

    def close(self) -> None:
        self._publisher.stop()
        self._publisher.transport.close()

    def _run(self, per_s: float, at_most: int | None, deeds: Sequence[str]) -> None:
        began_s = time.monotonic()
        for published, deed in enumerate(itertools.cycle(deeds)):
            if self._stopped.is_set() or published == at_most:
                return
            while published > (time.monotonic() - began_s) * per_s:
                self._stopped.wait(TICK_S)
                if self._stopped.is_set():
                    return
            self.publish(deed)


class Collector:
    """Reads the results and dead-letter topics from `listen` to `close`. `copies`: request → its answers."""

    def __init__(self, project: str) -> None:
        self.copies: dict[int, dict[str, Copy]] = defaultdict(dict)
        self._project = project
        self._subscriber = pubsub_v1.SubscriberClient()
        self._stopped = threading.Event()
        self._subscriptions = {topic: self._name() for topic in (RESULTS, DEAD_LETTERS)}
        self._threads = [
            threading.Thread(target=self._run, args=pair, name=f"collect-{pair[0]}", daemon=True)
            for pair in self._subscriptions.items()
        ]

    def listen(self) -> None:
        """Make the subscriptions (again, after the emulator forgot them), and read them."""
        for topic, name in self._subscriptions.items():
            path = self._subscriber.topic_path(self._project, topic)
            self._subscriber.create_subscription(name=name, topic=path)
        for thread in self._threads:
            if not thread.is_alive():
                thread.start()

    def close(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        for name in self._subscriptions.values():
            with suppress(GoogleAPICallError):
                self._subscriber.delete_subscription(subscription=name, timeout=PULL_S, retry=None)
        self._subscriber.close()

    def _name(self) -> str:
        return str(self._subscriber.subscription_path(self._project, f"drill-{uuid.uuid4().hex[:8]}"))

    def _run(self, topic: str, subscription: str) -> None:
        while not self._stopped.is_set():
            try:
                response = self._subscriber.pull(
                    subscription=subscription, max_messages=1000, timeout=PULL_S, retry=None
                )
                self._note(topic, response)
                if ids := [received.ack_id for received in response.received_messages]:
                    self._subscriber.acknowledge(subscription=subscription, ack_ids=ids, timeout=PULL_S, retry=None)
            except GoogleAPICallError:
                # Nothing there for a while, or an emulator that a drill has just killed.
                self._stopped.wait(AGAIN_S)

    def _note(self, topic: str, response: pubsub_v1.types.PullResponse) -> None:
        now_s = time.monotonic()
        for received in response.received_messages:
            copy = _copy(topic, received.message, now_s)
            self.copies[copy.request].setdefault(received.message.message_id, copy)


def _copy(topic: str, message: pubsub_v1.types.PubsubMessage, now_s: float) -> Copy:
    if topic == DEAD_LETTERS:
        request = message.attributes["lowtide_request_id"]
        ending, right, message_id = message.attributes["lowtide_reason"], False, ""
        attempts = int(message.attributes["lowtide_attempts"])
    else:
        result = json.loads(message.data)
        request, message_id, attempts = result["request_id"], result["message_id"], result["attempts"]
        error = result["error"]
        ending = f"{result['status']} {error['type']}" if error else result["status"]
        right = result["status"] == "ok" and result["outputs"] == [int(request)]
    return Copy(
        request=int(request),
        message_id=message_id,
        ending=ending,
        attempts=attempts,
        right=right,
        came_s=now_s,
        published=message.publish_time.timestamp(),
    )
