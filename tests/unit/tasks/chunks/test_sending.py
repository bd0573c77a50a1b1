import pytest
from celery import Celery
from kombu import Connection

from lowtide.tasks.chunks.sending import Chunk, ChunkSender
from lowtide.tasks.queues import CHUNK_COUNT_HEADER, SENT_AT_HEADER, WIRE_VERSION_HEADER, wire_version


@pytest.mark.parametrize(("fields", "version"), [({}, 1), ({"generation": "17"}, 2)])
def test_a_chunk_says_how_many_requests_it_holds_since_when_and_what_a_worker_must_know(
    fields: dict[str, str], version: int
) -> None:
    app = Celery(broker="memory://", set_as_current=False)
    plain = {"model": "m", "uri": "gs://b/o"}
    requests = (plain, {**plain, **fields}, plain)
    ChunkSender(app).send([Chunk(task_id="o.1", queue="q", requests=requests, sent_at=1_780_000_000.1234)])
    with Connection("memory://") as connection:
        message = connection.SimpleQueue("q").get_nowait()
    app.close()

    assert message.headers[CHUNK_COUNT_HEADER] == 3
    assert message.headers[SENT_AT_HEADER] == 1_780_000_000.123
    assert wire_version(message.headers) == message.headers[WIRE_VERSION_HEADER] == version
