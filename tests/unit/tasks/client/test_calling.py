"""`infer_many` as an iterator: what is sent is answered by the test."""

import math
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from importlib import import_module
from typing import Any

import pytest

from lowtide.tasks import InferenceRequest, InvalidRequest, Outcome, infer_many
from lowtide.tasks.errors import LowtideError, UnknownModel

calling = import_module("lowtide.tasks.client.calling")
"""Not a task of the package."""

REQUEST = {"model": "m", "uri": "gs://b/1"}
Sent = list[Future[tuple[Outcome, ...]]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """What was sent, unanswered; a fleet that serves `m` and `n`."""
    futures: Sent = []

    def submit(requests: list[InferenceRequest]) -> Future[tuple[Outcome, ...]]:
        if requests[0].model not in ("m", "n"):
            raise UnknownModel("is not served", "model")
        futures.append(Future())
        return futures[-1]

    monkeypatch.setattr(calling, "_submit", submit)
    monkeypatch.setattr(calling.served, "rates", lambda app: {"n": 1.0})
    return futures


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(requests: list[InferenceRequest]) -> Future[tuple[Outcome, ...]]:
        future: Future[tuple[Outcome, ...]] = Future()
        future.set_result(tuple(Outcome(status="ok", model_version="1", outputs=[request.uri]) for request in requests))
        return future

    monkeypatch.setattr(calling, "_submit", submit)
    monkeypatch.setattr(calling.served, "rates", lambda app: {})


@pytest.mark.parametrize("one", [REQUEST, InferenceRequest(**REQUEST), "gs://b/1", b"picture"])
def test_one_request_where_many_are_wanted_is_told_how_to_be_written(one: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"infer_many\(\[request\]\) for one"):
        infer_many(one)


@pytest.mark.parametrize("number", [0, -1])
def test_a_number_of_chunks_with_which_nothing_would_be_sent_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match=f"chunks_in_flight: expected a whole number from 1 on, got {number}"):
        infer_many([REQUEST], chunks_in_flight=number)


@pytest.mark.parametrize("timeout_s", [-1, math.nan])
def test_a_time_that_no_clock_shows_is_refused(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="timeout_s: expected seconds from 0 on, or None"):
        infer_many([REQUEST], timeout_s=timeout_s)


@pytest.mark.usefixtures("answered")
@pytest.mark.parametrize("timeout_s", [1e10, math.inf])
def test_a_time_longer_than_any_clock_can_wait_is_a_long_time(timeout_s: float) -> None:
    assert [answer.outputs for answer in infer_many([REQUEST], timeout_s=timeout_s)] == [["gs://b/1"]]


@pytest.mark.usefixtures("answered")
def test_threads_share_an_iterator_and_each_answer_comes_once() -> None:
    answers = infer_many([REQUEST] * 2000, chunks_in_flight=2)
    taken: list[int] = []
    errors: list[Exception] = []

    def take() -> None:
        try:
            taken.extend(answer.index for answer in answers)
        except Exception as error:  # noqa: BLE001 - told by the assertion: a thread would swallow it
            errors.append(error)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert (errors, sorted(taken)) == ([], list(range(2000)))


def test_another_thread_may_close_an_iterator_that_waits(sent: Sent) -> None:
    answers = infer_many([REQUEST])
    ended: list[list[Any]] = []
    thread = threading.Thread(target=lambda: ended.append(list(answers)))
    thread.start()
    while not sent:
        pass

    answers.close()
    thread.join(10)

    assert ended == [[]]


def test_what_is_being_sent_while_another_thread_closes_the_iterator_is_given_up_too(
    sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, submit = infer_many([REQUEST]), calling._submit

    def submit_while_closed(requests: list[InferenceRequest]) -> Future[tuple[Outcome, ...]]:
        future = submit(requests)
        answers.close()
        return future

    monkeypatch.setattr(calling, "_submit", submit_while_closed)

    assert list(answers) == []
    assert sent[0].cancelled()


def test_requests_that_ask_for_answers_of_their_own_call_are_an_error_and_no_wait() -> None:
    def requests() -> Iterator[dict[str, str]]:
        yield REQUEST | {"uri": next(answers).outputs[0]}

    answers = infer_many(requests())

    with pytest.raises(ValueError, match="generator already executing"):
        next(answers)


def test_a_forked_child_is_told_that_the_iterator_is_its_parents(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = infer_many([REQUEST])
    monkeypatch.setattr(os, "getpid", lambda: -1)

    with pytest.raises(LowtideError, match="forked from: call infer_many here"):
        next(answers)

    assert not sent


@pytest.mark.parametrize(
    ("bad", "error"), [({"model": "x", "uri": "gs://b/1"}, UnknownModel), ({"model": "n"}, InvalidRequest)]
)
def test_an_error_of_a_request_ends_the_iterator_and_nothing_is_left_out_in_silence(
    sent: Sent, bad: dict[str, str], error: type[Exception]
) -> None:
    good = [{"model": model, "uri": "gs://b/1"} for model in "mn"]
    answers = infer_many([*good, bad, *good], chunks_in_flight=9)

    with pytest.raises(error):
        next(answers)

    assert all(future.cancelled() for future in sent)
    assert list(answers) == []


@pytest.mark.usefixtures("answered")
def test_answers_do_not_wait_for_the_rest_of_a_stream_that_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    given = 0

    def requests() -> Iterator[dict[str, str]]:
        nonlocal now_s, given
        for _ in range(50):
            now_s += 1.0
            given += 1
            yield REQUEST

    monkeypatch.setattr(calling.time, "monotonic", lambda: now_s)
    answers = infer_many(requests())

    for answer in answers:
        assert given <= answer.index + 2
    assert given == 50


def test_another_thread_may_close_it_in_the_same_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = infer_many([])
    monkeypatch.setattr(answers._closed, "done", lambda: False)  # nor was it, a moment ago

    answers.close()
    answers.close()


def test_a_chunk_holds_a_tenth_of_a_second_of_work_as_the_fleet_measured_it(sent: Sent) -> None:
    infer_many([{**REQUEST, "model": "n"}] * 5)._send()
    assert len(sent) == 5  # of a second each

    infer_many([REQUEST] * 40)._send()
    assert len(sent) == 5 + 2  # by a guess of 5 ms
