"""How requests travel as one Celery task. Used by the bridge and by `infer_many` alike."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery import Celery

from lowtide.tasks.chunks.blob import apart, within
from lowtide.tasks.chunks.publish import AT_ONCE, Publication
from lowtide.tasks.infer import INFER_CHUNK, describe
from lowtide.tasks.queues import headers_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Requests of one model that travel as one task; `data` in them is base64, or bytes. `sent_at`: Unix time at which
    the oldest of them was published or sent, also when the chunk is sent again.
    """

    task_id: str
    queue: str
    requests: tuple[Mapping[str, Any], ...]
    sent_at: float


def new_owner() -> str:
    """A name for one incarnation of a process that sends chunks."""
    return uuid.uuid4().hex[:12]


def new_task_id(owner: str) -> str:
    """An id for one chunk of `owner`."""
    return f"{owner}.{uuid.uuid4().hex}"


class ChunkSender:
    """Enqueues chunks in bulk, on any broker that kombu speaks; on Redis with content beside the tasks. Safe to call
    from any thread.
    """

    def __init__(self, app: Celery, *, bridge: str | None = None) -> None:
        """`bridge`: the one that sends, of whose content Redis has a list."""
        self._app = app
        self._bridge = bridge
        self._headers = app.amqp.as_task_v2("", INFER_CHUNK, argsrepr="", kwargsrepr="").headers

    def send(self, chunks: Iterable[Chunk], *, again: bool = False, within_task: bool = False) -> None:
        """Enqueue chunks. `again`: they may be there already, so a worker skips one whose result exists. `within_task`:
        content goes within the task, where it can't be lost by itself.

        Raises kombu's OperationalError or BatchPublishError when the broker did not confirm: each chunk may or may
        not be there, and sending the same ones again is safe.
        """
        delivery_info = {"redelivered": True} if again else {}
        with self._app.producer_or_acquire() as producer, producer.batch(max_size=AT_ONCE) as batch:
            publication = None
            if Publication.suits(producer.channel):
                batch.state.session = publication = Publication(producer.channel, bridge=self._bridge)
            for chunk in chunks:
                if publication and again:
                    publication.drop_news(chunk.task_id)
                if publication and not within_task:
                    requests, blob = apart(chunk.requests)
                    publication.beside(chunk.task_id, blob)
                else:
                    requests = within(chunk.requests)
                producer.publish(
                    ((requests,), {}, _NO_CALLBACKS),
                    exchange="",
                    routing_key=chunk.queue,
                    serializer="json",
                    headers=self._headers_of(chunk, requests),
                    correlation_id=chunk.task_id,
                    delivery_info=dict(delivery_info),
                    retry=False,
                )

    def _headers_of(self, chunk: Chunk, requests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            **self._headers,
            "id": chunk.task_id,
            "root_id": chunk.task_id,
            "argsrepr": describe(requests),
            **headers_of(requests, sent_at=chunk.sent_at),
        }


_NO_CALLBACKS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
