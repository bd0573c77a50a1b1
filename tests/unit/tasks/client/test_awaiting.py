"""Calls of one event loop: what travels with what, and whose answer is whose. What is sent is answered by the test."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from lowtide.tasks.chunks.packing import Packing
from lowtide.tasks.client.awaiting import SENDS, Awaiting
from lowtide.tasks.errors import OtherProtocol, RedisUnusable, UnknownModel
from lowtide.tasks.wire.outcome import Outcome
from lowtide.tasks.wire.request import InferenceRequest

Answer = Future[tuple[Outcome, ...]]


class Fleet:
    """Serves every model but `z`; Redis can be away. `sent`: the chunks, unanswered; `may_send` holds up who sends."""

    def __init__(self) -> None:
        self.sent: list[tuple[list[str], Answer]] = []
        self.may_send = threading.Event()
        self.may_send.set()
        self.sending = 0
        self.rates_asked = 0
        self.rates_s = {"slow": 0.04}
        self.away = False
        self.error: Exception = RedisUnusable("Redis can't be used")
        self.calls = Awaiting(self.submit, self.packing)

    def submit(self, requests: list[InferenceRequest], answer: Answer) -> None:
        self.sending += 1
        assert self.may_send.wait(10)
        if requests[0].model == "z":
            raise UnknownModel("z is not served here", "model")
        if self.away:
            raise self.error from ConnectionError("away")
        self.sent.append(([str(request.uri) for request in requests], answer))

    def packing(self) -> Packing:
        self.rates_asked += 1
        return Packing(max_requests=64, rates_s=self.rates_s)

    def ask(self, *uris: str, model: str = "m") -> list["asyncio.Future[Outcome]"]:
        return [self.calls.ask(InferenceRequest(model=model, uri=uri)) for uri in uris]

    def answer(self) -> None:
        """All that was sent, each request with its own name."""
        for uris, answer in self.sent:
            if answer.set_running_or_notify_cancel():
                answer.set_result(tuple(outcome(uri) for uri in uris))
        self.sent.clear()

    async def chunks(self, count: int) -> list[list[str]]:
        """What was sent, once there are so many."""
        async with asyncio.timeout(10):
            while len(self.sent) < count:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)  # for one too many
        return sorted(uris for uris, _ in self.sent)


def outcome(uri: str) -> Outcome:
    return Outcome(status="ok", model_version="1", outputs=[uri])


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    fleet = Fleet()
    yield fleet
    fleet.may_send.set()


def test_calls_of_one_turn_travel_together_by_model_and_each_gets_its_own_answer(fleet: Fleet) -> None:
    async def calls() -> list[Outcome]:
        asked = [*fleet.ask("1", "2", "3"), *fleet.ask("4", model="n"), *fleet.ask("5")]
        assert await fleet.chunks(2) == [["1", "2", "3", "5"], ["4"]]
        fleet.answer()
        return await asyncio.gather(*asked)

    assert [found.outputs for found in asyncio.run(calls())] == [["1"], ["2"], ["3"], ["4"], ["5"]]


def test_coroutines_that_are_gathered_make_their_calls_in_one_turn(fleet: Fleet) -> None:
    async def call(uri: str) -> Outcome:
        (asked,) = fleet.ask(uri)
        return await asked

    async def calls() -> list[Outcome]:
        gathered = asyncio.gather(*(call(str(number)) for number in range(20)))
        assert len(await fleet.chunks(1)) == 1
        fleet.answer()
        return await gathered

    assert [found.outputs for found in asyncio.run(calls())] == [[str(number)] for number in range(20)]


def test_a_lone_call_waits_for_nobody_and_for_no_rates(fleet: Fleet) -> None:
    async def call() -> None:
        fleet.ask("1")
        assert await fleet.chunks(1) == [["1"]]

    asyncio.run(call())
    assert fleet.rates_asked == 0


def test_a_chunk_has_as_much_work_and_as_many_bytes_as_a_bridge_would_give_it(fleet: Fleet) -> None:
    async def calls() -> tuple[list[int], list[int]]:
        fleet.ask(*"12345", model="slow")
        slow = list(map(len, await fleet.chunks(3)))
        fleet.sent.clear()
        for _ in range(5):
            fleet.calls.ask(InferenceRequest(model="m", data="x" * 2_000_000))  # base64, of 1.5 MB
        return slow, list(map(len, await fleet.chunks(3)))

    assert [sorted(sizes) for sizes in asyncio.run(calls())] == [[1, 2, 2], [1, 2, 2]]


def test_what_comes_while_others_are_being_sent_goes_as_one(fleet: Fleet) -> None:
    async def calls() -> list[list[str]]:
        fleet.may_send.clear()
        for number in range(SENDS + 5):
            fleet.ask(str(number))
            async with asyncio.timeout(10):
                while fleet.sending < min(number + 1, SENDS):  # in a thread
                    await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)  # another turn
        assert fleet.sending == SENDS
        fleet.may_send.set()
        return await fleet.chunks(SENDS + 1)

    assert sorted(map(len, asyncio.run(calls()))) == [*[1] * SENDS, 5]


@pytest.mark.parametrize("away", [True, False])
def test_an_error_is_of_those_whose_chunk_it_was_and_each_has_one_of_its_own(fleet: Fleet, away: bool) -> None:
    async def calls() -> tuple[list[BaseException], list[str]]:
        fleet.away = away
        bad = fleet.ask("1", "2", model="m" if away else "z")
        good = [] if away else fleet.ask("3", "4", model="n")
        if good:
            await fleet.chunks(1)
            fleet.answer()
        errors = await asyncio.gather(*bad, return_exceptions=True)
        assert all(isinstance(error, BaseException) for error in errors)
        outputs = [found.outputs[0] for found in await asyncio.gather(*good)]
        return [error for error in errors if isinstance(error, BaseException)], outputs

    (one, other), outputs = asyncio.run(calls())
    assert one is not other
    assert type(one) is type(other) is (RedisUnusable if away else UnknownModel)
    assert str(one) == str(other) == ("Redis can't be used" if away else "model: z is not served here")
    assert isinstance(one.__cause__, ConnectionError) == away
    assert outputs == ([] if away else ["3", "4"])


def test_an_error_that_can_not_be_copied_is_told_all_the_same(fleet: Fleet) -> None:
    async def call() -> None:
        fleet.away, fleet.error = True, OtherProtocol(spoken="3", ours="2")
        for found in fleet.ask("1", "2"):
            with pytest.raises(OtherProtocol):
                await asyncio.wait_for(found, 10)

    asyncio.run(call())


def test_who_cancels_waits_no_longer_and_touches_nobody_else(fleet: Fleet) -> None:
    async def calls() -> None:
        before, one, two = fleet.ask("0", "1", "2")
        before.cancel()
        assert await fleet.chunks(1) == [["1", "2"]], "what is cancelled by then is not sent"
        [(_, answer)] = fleet.sent
        one.cancel()
        await asyncio.sleep(0)
        assert not answer.cancelled()
        fleet.answer()
        assert (await two).outputs == ["2"]

    asyncio.run(calls())


@pytest.mark.parametrize("sent", [True, False])
def test_a_chunk_for_which_nobody_waits_any_more_is_given_up_also_while_it_is_sent(fleet: Fleet, sent: bool) -> None:
    async def calls() -> None:
        if not sent:
            fleet.may_send.clear()
        asked = fleet.ask("1", "2")
        while not fleet.sending:
            await asyncio.sleep(0.001)
        if sent:
            await fleet.chunks(1)
        for one in asked:
            one.cancel()
        await asyncio.sleep(0)
        fleet.may_send.set()
        await fleet.chunks(1)
        assert [answer.cancelled() for _, answer in fleet.sent] == [True]

    asyncio.run(calls())


def test_a_loop_that_ends_waits_for_nothing(fleet: Fleet) -> None:
    async def calls() -> list["asyncio.Future[Outcome]"]:
        asked = fleet.ask("1", "2")
        await fleet.chunks(1)
        return asked

    asked = asyncio.run(calls())
    assert all(one.cancelled() for one in asked)
    assert [answer.cancelled() for _, answer in fleet.sent] == [True]
