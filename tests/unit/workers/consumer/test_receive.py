from contextlib import suppress
from datetime import datetime
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


PAYLOAD = ([{"model": "m", "uri": "gs://b/1"}], {}, {})


class Receiving:
    """A worker as far as a message comes to it: what its pool gets, and what Celery itself holds until it is due."""

    def __init__(self, qos: Any = None) -> None:
        self.got: list[receive.Request] = []
        self.held: list[Any] = []
        self._qos = qos

    def __call__(self, payload: object = PAYLOAD, *, body: Any = None, **headers: Any) -> Any:
        """The message's headers."""
        consumer = SimpleNamespace(
            hostname="h",
            connection_errors=(),
            event_dispatcher=None,
            timer=SimpleNamespace(call_at=lambda *args, **_: self.held.append(args)),
            qos=SimpleNamespace(increment_eventually=lambda: None),
            apply_eta_task=None,
            disable_rate_limits=True,
            task_buckets={},
            on_task_request=self.got.append,
            _limit_task=None,
            _limit_post_eta=None,
            controller=SimpleNamespace(state=SimpleNamespace(revoked=())),
            pool=SimpleNamespace(apply_async=None),
        )
        message = SimpleNamespace(
            headers={"id": "t", "task": "lowtide.infer", **headers},
            payload=payload,
            body=b"",
            properties={},
            delivery_info={},
            delivery_tag="tag",
            content_type="application/json",
            content_encoding="utf-8",
            channel=SimpleNamespace(qos=self._qos),
        )
        receive.strategy(infer, infer.app, consumer)(message, body, None, None, [])
        return message.headers


def received(payload: object = PAYLOAD, **headers: Any) -> receive.Request:
    """What a worker's pool gets of a message."""
    receiving = Receiving()
    receiving(payload, **headers)
    return receiving.got[0]


class SettingAside(QoS):
    """Postpones what isn't due by its own clock, which is Redis'."""

    def __init__(self, now: str) -> None:
        self._now = datetime.fromisoformat(now).timestamp()
        self.postponed: list[tuple[str, float]] = []

    def postpone(self, delivery_tag: str, due: float) -> bool:
        if due <= self._now:
            return False
        self.postponed.append((delivery_tag, due))
        return True


@pytest.mark.parametrize("eta", ["20270115T080000Z", "2027-01-15T08:00:00", "2027-01-15T13:30+05:30", "2027-W02-5T08Z"])
def test_what_is_not_due_is_set_aside_in_whatever_way_it_says_so(eta: str) -> None:
    receiving = Receiving(qos := SettingAside("2027-01-15T07:59:00Z"))
    receiving(eta=eta)
    receiving({"args": [], "eta": eta})
    receiving(body={"task": "lowtide.infer", "eta": eta})
    assert qos.postponed == [("tag", DUE)] * 3
    assert not receiving.got


def test_a_machine_whose_clock_is_ahead_begins_nothing_early() -> None:
    receiving = Receiving(SettingAside("2001-01-15T07:59:00Z"))
    receiving(eta="20010115T080000Z")
    assert not receiving.got


def test_what_is_due_by_redis_clock_is_not_held_by_this_machines() -> None:
    receiving = Receiving(SettingAside("2999-01-15T08:00:01Z"))
    receiving(eta="2999-01-15T08:00:00")
    assert (len(receiving.got), receiving.held) == (1, [])


@pytest.mark.parametrize("eta", [None, "", "tomorrow", 5, ["x"]])
def test_what_says_no_time_is_left_to_celery(eta: object) -> None:
    receiving = Receiving(qos := SettingAside("2001-01-15T07:59:00Z"))
    with suppress(InvalidTaskError):
        assert receiving(eta=eta)["eta"] == eta
    assert qos.postponed == []
    assert len(receiving.got) == (eta is None)


def test_a_stock_channel_leaves_it_to_celery() -> None:
    receiving = Receiving(SimpleNamespace())
    receiving(eta="2999-01-15T08:00:00")
    assert (receiving.got, len(receiving.held)) == ([], 1)


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
    assert received(([], {"task": {"task": "lowtide.infer", "args": []}, "it": it}, {})).argsrepr == "m × 3"
