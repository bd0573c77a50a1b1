"""`infer_many` as an iterator: what is sent is answered by the test."""

import math
import os
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from lowtide.tasks import InferenceRequest, InvalidRequest, Outcome, infer_many
from lowtide.tasks.chunks.packing import Packing
from lowtide.tasks.client.calling import PAUSE_S, Answers
from lowtide.tasks.errors import LowtideError, UnknownModel

REQUEST = {"model": "m", "uri": "gs://b/1"}


class Fleet:
    """Serves `m` and `n`. `sent`: futures, unanswered unless it `answers`."""

    def __init__(self, *, answers: bool = False) -> None:
        self.answers = answers
        self.sent: list[Future[tuple[Outcome, ...]]] = []

    def submit(self, requests: list[InferenceRequest]) -> Future[tuple[Outcome, ...]]:
        if requests[0].model not in ("m", "n"):
            raise UnknownModel("is not served", "model")
        self.sent.append(Future())
        if self.answers:
            self.sent[-1].set_result(
                tuple(Outcome(status="ok", model_version="1", outputs=[request.uri]) for request in requests)
            )
        return self.sent[-1]

    def answers_to(self, requests: Iterable[Any], **options: Any) -> Answers:
        return Answers(requests, submit=self.submit, packing=Packing, **options)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def answering() -> Fleet:
    return Fleet(answers=True)


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


@pytest.mark.parametrize("timeout_s", [1e10, math.inf])
def test_a_time_longer_than_any_clock_can_wait_is_a_long_time(answering: Fleet, timeout_s: float) -> None:
    answers = answering.answers_to([REQUEST], timeout_s=timeout_s)
    assert [answer.outputs for answer in answers] == [["gs://b/1"]]


def test_threads_share_an_iterator_and_each_answer_comes_once(answering: Fleet) -> None:
    answers = answering.answers_to([REQUEST] * 2000, chunks_in_flight=2)
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


def test_another_thread_may_close_an_iterator_that_waits(fleet: Fleet) -> None:
    answers = fleet.answers_to([REQUEST])
    ended: list[list[Any]] = []
    thread = threading.Thread(target=lambda: ended.append(list(answers)))
    thread.start()
    while not fleet.sent:
        pass

    answers.close()
    thread.join(10)

    assert ended == [[]]


def test_what_is_being_sent_while_another_thread_closes_the_iterator_is_given_up_too(fleet: Fleet) -> None:
    def submit_while_closed(requests: list[InferenceRequest]) -> Future[tuple[Outcome, ...]]:
        future = fleet.submit(requests)
        answers.close()
        return future

    answers = Answers([REQUEST], submit=submit_while_closed, packing=Packing)

    assert list(answers) == []
    assert fleet.sent[0].cancelled()


def test_requests_that_ask_for_answers_of_their_own_call_are_an_error_and_no_wait() -> None:
    def requests() -> Iterator[dict[str, str]]:
        yield REQUEST | {"uri": next(answers).outputs[0]}

    answers = infer_many(requests())

    with pytest.raises(ValueError, match="generator already executing"):
        next(answers)


def test_a_forked_child_is_told_that_the_iterator_is_its_parents(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = fleet.answers_to([REQUEST])
    monkeypatch.setattr(os, "getpid", lambda: -1)

    with pytest.raises(LowtideError, match="forked from: call infer_many here"):
        next(answers)

    assert not fleet.sent


@pytest.mark.parametrize(
    ("bad", "error"), [({"model": "x", "uri": "gs://b/1"}, UnknownModel), ({"model": "n"}, InvalidRequest)]
)
def test_an_error_of_a_request_ends_the_iterator_and_nothing_is_left_out_in_silence(
    fleet: Fleet, bad: dict[str, str], error: type[Exception]
) -> None:
    good = [{"model": model, "uri": "gs://b/1"} for model in "mn"]
    answers = fleet.answers_to([*good, bad, *good], chunks_in_flight=9)

    with pytest.raises(error):
        next(answers)

    assert all(future.cancelled() for future in fleet.sent)
    assert list(answers) == []


def test_answers_do_not_wait_for_the_rest_of_a_stream_that_pauses(answering: Fleet) -> None:
    given = 0

    def requests() -> Iterator[dict[str, str]]:
        nonlocal given
        for _ in range(4):
            time.sleep(1.1 * PAUSE_S)
            given += 1
            yield REQUEST

    for answer in answering.answers_to(requests()):
        assert given <= answer.index + 2
    assert given == 4


def test_another_thread_may_close_it_in_the_same_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = infer_many([])
    monkeypatch.setattr(answers._closed, "done", lambda: False)  # nor was it, a moment ago

    answers.close()
    answers.close()
