import time
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import InvalidTaskError
from kombu.exceptions import ContentDisallowed, DecodeError

from lowtide.tasks import RequestFailed, infer
from lowtide.workers.consumer import receive
from lowtide.workers.consumer.channel import QoS

DUE = 1_800_000_000.0


def test_a_task_that_is_to_be_terminated_is_told_of_in_one_sentence(caplog: pytest.LogCaptureFixture) -> None:
    receive.Request.terminate(SimpleNamespace(id="t"), pool=None, signal="KILL")
    assert caplog.messages == ["task t can't be terminated, a thread runs it: it ends by itself"]


class Channel(QoS):
    """Postpones what isn't due by its own clock, which is Redis'."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.postponed: list[tuple[str, float]] = []

    def postpone(self, delivery_tag: str, due: float) -> bool:
        if due <= self.now:
            return False
        self.postponed.append((delivery_tag, due))
        return True


def message(qos: Any, *, eta: object = None, payload: object = ()) -> Any:
    return SimpleNamespace(
        channel=SimpleNamespace(qos=qos), delivery_tag="tag", headers={"task": "x", "eta": eta}, payload=payload
    )


@pytest.mark.parametrize("eta", ["20270115T080000Z", "2027-01-15T08:00:00", "2027-01-15T13:30+05:30", "2027-W02-5T08Z"])
def test_what_is_not_due_is_set_aside_in_whatever_way_it_says_so(eta: str) -> None:
    for given, body in (
        (message(qos := Channel(DUE - 60), eta=eta), None),
        (message(qos, payload={"args": [], "eta": eta}), None),
        (message(qos), {"task": "x", "eta": eta}),
    ):
        assert receive._postponed(given, body)
        assert qos.postponed.pop() == ("tag", DUE)


def test_a_machine_whose_clock_is_ahead_begins_nothing_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: DUE + 60)
    assert receive._postponed(message(Channel(DUE - 60), eta="20270115T080000Z"), None)


def test_what_is_due_by_redis_clock_is_not_held_by_this_machines() -> None:
    given = message(Channel(DUE + 1), eta="2027-01-15T08:00:00")
    assert not receive._postponed(given, None)
    assert given.headers["eta"] is None, "else Celery would hold it for a minute"


@pytest.mark.parametrize("eta", [None, "", "tomorrow", 5, ["x"]])
def test_what_says_no_time_is_left_as_it_is(eta: object) -> None:
    given = message(Channel(0), eta=eta)
    assert not receive._postponed(given, None)
    assert given.headers["eta"] == eta


def test_a_stock_channel_leaves_it_to_celery() -> None:
    given = message(SimpleNamespace(), eta="2027-01-15T08:00:00")
    assert not receive._postponed(given, None)
    assert given.headers["eta"]


@pytest.mark.parametrize(
    ("headers", "body", "error", "words"),
    [
        (
            {"id": "t", "task": "lowtide.infer"},
            None,
            ContentDisallowed("of type pickle"),
            "set task_serializer to json",
        ),
        ({"id": "t", "task": "lowtide.infer"}, None, DecodeError("x"), "set task_serializer to json"),
        ({"id": "t", "task": "lowtide.infer"}, None, InvalidTaskError("invalid ETA value 'x'"), "invalid ETA value"),
        ({}, {"id": "t", "task": "lowtide.infer"}, InvalidTaskError("args are no list"), "args are no list"),
    ],
)
def test_who_sent_what_is_refused_is_told(headers: Any, body: Any, error: Exception, words: str) -> None:
    app = Celery("told", backend="cache+memory://", set_as_current=False)
    receive.fail(app, SimpleNamespace(headers=headers), body, error)

    with pytest.raises(RequestFailed, match=f"invalid_request: .*{words}"):
        app.AsyncResult("t").get()


@pytest.mark.parametrize("headers", [{}, {"id": None}, {"id": 7}, {"id": "\ud800"}, {"id": ["t"]}])
def test_nobody_waits_for_a_message_without_an_id(headers: Any) -> None:
    receive.fail(None, SimpleNamespace(headers=headers), None, InvalidTaskError("x"))


def deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


def received(payload: object = ([{"model": "m", "uri": "gs://b/1"}], {}, {}), **headers: Any) -> receive.Request:
    """What a worker's pool gets of a message."""
    got: list[receive.Request] = []
    consumer = SimpleNamespace(
        hostname="h",
        connection_errors=(),
        event_dispatcher=None,
        timer=SimpleNamespace(call_at=None),
        apply_eta_task=None,
        disable_rate_limits=True,
        task_buckets={},
        on_task_request=got.append,
        _limit_task=None,
        _limit_post_eta=None,
        controller=SimpleNamespace(state=SimpleNamespace(revoked=())),
        pool=SimpleNamespace(apply_async=None),
    )
    given = SimpleNamespace(
        headers={"id": "t", "task": "lowtide.infer", **headers},
        payload=payload,
        body=b"",
        properties={},
        delivery_info={},
        content_type="application/json",
        content_encoding="utf-8",
        channel=SimpleNamespace(qos=None),
    )
    receive.strategy(infer, infer.app, consumer)(given, None, None, None, [])
    return got[0]


@pytest.mark.parametrize(
    "headers", [{"shadow": {"a": 1}}, {"shadow": 5}, {"timelimit": "x"}, {"timelimit": [None]}, {"expires": 5}]
)
def test_headers_that_a_thread_would_fail_on_are_refused_while_somebody_can_be_told(headers: dict[str, Any]) -> None:
    assert received(shadow="mine").name == "mine"
    assert received().argsrepr == "m × 1"
    with pytest.raises(InvalidTaskError):
        received(**headers)


@pytest.mark.parametrize("payload", [5, None, True, 1.5, "x", [], {}, [5, {}, {}], [deep(5000), {}, {}]])
def test_a_body_that_is_no_task_is_refused_while_somebody_can_be_told(payload: object) -> None:
    with pytest.raises(InvalidTaskError):
        received(payload)


@pytest.mark.parametrize("it", [[{"model": "m"}] * 3, [[{"model": "m"}]] * 3, [[[{"model": "m"}] * 3]]])
def test_a_map_is_described_by_what_it_holds(it: list[Any]) -> None:
    assert receive._described([], {"task": {"task": "lowtide.infer", "args": []}, "it": it}) == "m × 3"
