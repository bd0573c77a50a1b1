from typing import Any

import pytest

from lowtide.tasks.queues import WIRE_VERSION_HEADER, route, wire_version, worker_queues


def test_a_worker_takes_urgent_requests_first() -> None:
    assert worker_queues(["a", "b"]) == (
        "lowtide.a.high",
        "lowtide.b.high",
        "lowtide.a",
        "lowtide.a.topic",
        "lowtide.b",
        "lowtide.b.topic",
    )


def test_a_call_goes_to_its_models_queue() -> None:
    assert route("lowtide.infer", ({"model": "digits"},), {}, {}) == {"queue": "lowtide.digits"}
    assert route("lowtide.infer", (), {"request": {"model": "digits"}}, {}) == {"queue": "lowtide.digits"}
    assert route("lowtide.infer_chunk", ([{"model": "digits", "priority": "high"}],), {}, {}) == {
        "queue": "lowtide.digits.high"
    }


def test_a_map_goes_where_its_first_request_would() -> None:
    for it in ([{"model": "digits"}], [({"model": "digits"},)], [[[{"model": "digits"}]]]):
        assert route("lowtide.infer", (), {"task": {"task": "lowtide.infer"}, "it": it}, {}) == {
            "queue": "lowtide.digits"
        }


def test_what_has_no_model_is_left_to_the_caller() -> None:
    assert route("other", (), {}, {}) is None
    assert route("lowtide.infer_chunk", ([],), {}, {}) is None
    assert route("lowtide.infer", ({"uri": "gs://b/o"},), {}, {}) is None


@pytest.mark.parametrize("headers", [{}, {WIRE_VERSION_HEADER: None}, {WIRE_VERSION_HEADER: "new"}])
def test_who_names_no_version_speaks_the_first(headers: dict[str, Any]) -> None:
    assert wire_version(headers) == 1
