import warnings
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import CPendingDeprecationWarning
from celery.worker import consumer as celerys
from redis import exceptions

from lowtide.workers.consumer.consumer import Consumer


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (exceptions.NoPermissionError("no permissions to access one of the channels"), 1),
        (exceptions.ClusterDownError("Hash slot not served"), 1),
        (exceptions.ResponseError("unknown command 'PSUBSCRIBE'"), 1),
        (exceptions.ConnectionError("max number of clients reached"), 1),
        (exceptions.ConnectionError("Connection closed by server."), 0),
        (exceptions.TimeoutError("Timeout reading from socket"), 0),
    ],
)
def test_what_redis_refuses_is_not_tried_again_at_once(
    error: Exception, pauses: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def told_by_celery(*_: Any) -> None:
        warnings.warn(
            "In Celery 5.1 we introduced an optional breaking change", CPendingDeprecationWarning, stacklevel=1
        )

    waits: list[bool] = []
    rights: Any = SimpleNamespace(wait=lambda look, refused: waits.append(refused))
    monkeypatch.setattr(celerys.Consumer, "on_connection_error_after_connected", told_by_celery)
    made = Consumer.__new__(Consumer)
    made.rights = rights

    made.on_connection_error_after_connected(error)

    assert waits == [True] * pauses
    assert len(caplog.messages) == pauses
    assert all(line.startswith("Redis refuses what a worker needs: ") for line in caplog.messages)
