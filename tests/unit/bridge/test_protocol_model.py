from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from celery.backends.base import DisabledBackend
from celery.worker.request import Request

from lowtide.bridge.acknowledge import Acknowledger
from lowtide.bridge.collect import Collector
from lowtide.bridge.credit import Fleet
from lowtide.bridge.flow_control import FlowControl
from lowtide.bridge.held.held import Held
from lowtide.bridge.held.leaser import Leaser
from lowtide.bridge.held.records import Claim, Record
from lowtide.bridge.messages.endings import Endings
from lowtide.bridge.messages.kinds import Received
from lowtide.bridge.messages.reader import Reader
from lowtide.bridge.messages.translate import Rules
from lowtide.bridge.pull import Puller
from lowtide.bridge.settle import CLAIM_FRESH_S, Settler
from lowtide.config import load_settings
from lowtide.tasks import Outcome, infer_chunk, port
from lowtide.tasks.app import app
from lowtide.tasks.chunks.packing import Packing
from lowtide.tasks.chunks.results import ChunkResult
from lowtide.tasks.chunks.sending import Chunk
from lowtide.tasks.errors import EMPTY_OBJECT
from lowtide.tasks.infer import INFER_CHUNK
from lowtide.tasks.stub import StubEngine
from lowtide.tasks.wire.outcome import Status
from tests.unit.bridge.protocol_model import (
    BRIDGE,
    LOST,
    PIECES,
    SILENT,
    TWICE,
    UNRECORDED,
    WORKER,
    Model,
)
from tests.unit.bridge.protocol_state import Circumstance, State
from tests.unit.bridge.received import received
from tests.unit.exploration import WEDGED, Violation, explore

SETTINGS = load_settings(project="p", models="a")


def moved(steps: Sequence[str], step: str, *, before: str) -> tuple[str, ...]:
    """The steps in another order."""
    others = [other for other in steps if other != step]
    at = others.index(before)
    return (*others[:at], step, *others[at:])


def violation(**fields: Any) -> Violation:
    found = explore(Model(faults=2, **fields)).violation
    assert found is not None, "no state breaks an invariant"
    print(found)  # noqa: T201 (`pytest -s` shows every interleaving)
    return found


def test_no_state_loses_a_message_or_doubles_a_result_or_is_wedged() -> None:
    found = explore(Model())

    assert found.violation is None, str(found.violation)
    assert len(found.states) > 30_000  # else faults were not explored


def test_content_that_is_gone_at_any_moment_loses_doubles_and_wedges_nothing() -> None:
    """Each bridge has a chunk and content of its own of the message."""
    found = explore(Model(beside=True, faults=2))

    assert found.violation is None, str(found.violation)
    assert len(found.states) > 15_000
    assert any(one.blob and other.blob for one, other in (state.bridges for state in found.states))


@pytest.mark.parametrize("piece", ["say that content is lost", "send content again"])
def test_a_bridge_would_wait_for_ever_for_content_that_is_gone(piece: str) -> None:
    assert violation(beside=True, pieces=PIECES - {piece}).what == WEDGED


def test_content_that_is_gone_costs_nothing_but_another_way_through_the_queue() -> None:
    found = explore(Model(beside=True, faults=0))

    assert found.violation is None, str(found.violation)
    assert {state.copies for state in found.states if state.acked} == {1}


class Named(Model):
    """Tells the bridges apart by their names."""

    def key(self, state: State) -> State:
        return state


def test_bridges_by_other_names_come_to_no_other_states() -> None:
    model = Model(faults=1)
    found, named = explore(model), explore(Named(faults=1))

    assert {model.key(state) for state in found.states} == {model.key(state) for state in named.states}
    assert len(found.states) < len(named.states) / 1.5


SILENT_AT_LAST = tuple(step for step in BRIDGE if step not in ("renew", "publish"))
"""With an upload that turns out to be empty in the worker."""


@pytest.mark.parametrize(("steps", "faults"), [(SILENT, 3), (SILENT_AT_LAST, 2)])
def test_no_state_forgets_a_message_that_ends_in_silence_or_is_wedged(steps: tuple[str, ...], faults: int) -> None:
    found = explore(Model(bridge=steps, silent=True, faults=faults))

    assert found.violation is None, str(found.violation)
    assert len(found.states) > 1_000


def test_a_message_that_ends_in_silence_is_recorded_before_it_is_acknowledged() -> None:
    steps = moved(SILENT, "acknowledge", before="record")
    assert violation(bridge=steps, silent=True).what == UNRECORDED


@pytest.mark.parametrize(
    ("step", "before", "what"),
    [
        ("record", "publish", LOST),
        ("acknowledge", "publish", LOST),
        ("acknowledge", "record", TWICE),
        ("publish", "claim", TWICE),
        ("publish", "renew", TWICE),
        ("let expire", "acknowledge", TWICE),
        ("enqueue", "look up", WEDGED),
    ],
)
def test_a_bridge_that_takes_one_step_before_another_breaks_a_promise(step: str, before: str, what: str) -> None:
    assert violation(bridge=moved(BRIDGE, step, before=before)).what == what


def test_a_worker_that_acknowledges_before_it_stores_the_result_leaves_a_bridge_waiting_for_ever() -> None:
    found = violation(worker=moved(WORKER, "ack", before="store"))

    assert found.what == WEDGED
    assert found.trace[-2:] == ("worker: ack", "worker: CRASH")


@pytest.mark.parametrize(
    ("piece", "what"),
    [
        ("sweeper", WEDGED),
        ("send again", WEDGED),
        ("claims lapse", WEDGED),
        ("sure leases", TWICE),
        ("forget what is stale", TWICE),
        ("drop old answers", TWICE),
    ],
)
def test_no_piece_of_the_protocol_can_be_left_out(piece: str, what: str) -> None:
    assert violation(pieces=PIECES - {piece}).what == what


@pytest.mark.parametrize("circumstance", Circumstance)
def test_each_circumstance_in_which_a_second_copy_is_allowed_makes_one(circumstance: Circumstance) -> None:
    assert violation(circumstances=frozenset(Circumstance) - {circumstance}).what == TWICE


def test_a_trace_tells_what_happened_step_by_step() -> None:
    assert str(violation(bridge=moved(BRIDGE, "acknowledge", before="publish"))).splitlines() == [
        "acknowledged, and nothing was published:",
        "   1. bridge 0: pull",
        "   2. bridge 0: look up",
        "   3. bridge 0: enqueue",
        "   4. worker: take the chunk of 0",
        "   5. worker: store",
        "   6. bridge 0: learn",
        "   7. bridge 0: claim",
        "   8. bridge 0: renew",
        "   9. bridge 0: acknowledge",
    ]


class Outside:
    """Pub/Sub, Redis, Celery and the fleet, as far as the bridge's parts ask them for one message. Notes each step."""

    def __init__(
        self,
        data: bytes = b'{"model": "a", "uri": "gs://b/c"}',
        outcome: Outcome = Outcome(status=Status.OK),  # noqa: B008 (frozen)
        **attributes: str,
    ) -> None:
        self.data = data
        self.outcome = outcome
        self.attributes = attributes
        self.steps: list[str] = []
        self.workers = 1
        self.packing = Packing()
        self.sent: list[Chunk] = []

    # Pub/Sub

    def ask(self, credit: int) -> None: ...

    def take(self, timeout_s: float) -> list[Any] | None:
        """Both the pulls' and the results': the chunk's result is there as soon as it was sent."""
        raise NotImplementedError

    def pulled(self, timeout_s: float) -> list[Received]:
        if "pull" in self.steps:
            return []
        self.steps.append("pull")
        return [received(data=self.data, attributes=self.attributes)]

    def publish(self, topic: str, messages: Sequence[Any]) -> None:
        self.steps.append("publish")

    def acknowledge(self, subscription: str, ack_ids: Sequence[str]) -> None:
        self.steps.append("acknowledge")

    # Redis

    def read(self) -> Fleet:
        return Fleet(workers=1, bridges=1, waiting=0)

    def look_up(self, keys: Sequence[str]) -> list[Record]:
        self.steps.append("look up")
        return [Record(claim=None, tries=0) for _ in keys]

    def claim(self, keys: Sequence[str]) -> list[Claim]:
        self.steps.append("renew" if "claim" in self.steps else "claim")
        return [Claim.OURS for _ in keys]

    def done(self, keys: Sequence[str]) -> None:
        self.steps.append("record")

    def acknowledged(self, keys: Sequence[str]) -> None:
        assert keys == ["s:17"]
        self.steps.append("let expire")

    def forget(self, task_ids: Sequence[str]) -> None: ...

    # Celery

    ready, behind = True, False

    def new_task_id(self) -> str:
        return "b.1"

    def send(self, chunks: Sequence[Chunk]) -> None:
        self.steps.append("enqueue")
        self.sent += chunks

    def tend(self) -> None: ...

    def learned(self, timeout_s: float) -> list[ChunkResult]:
        results = [ChunkResult(task_id=one.task_id, outcomes=(self.outcome,)) for one in self.sent]
        self.sent.clear()
        self.steps += ["learn"] * len(results)
        return results


def clock_that_jumps_after_the_claim() -> Any:
    """Of the settler: the claim is taken at 0 s, and is no longer fresh when the publish is due."""
    times = iter([0.0])
    return lambda: next(times, CLAIM_FRESH_S + 1)


def bridge_parts(outside: Any) -> Iterator[Any]:
    """The bridge's own parts, the last step first: their order is not that of the turns."""
    held, endings = Held(), Endings(SETTINGS)
    leaser = Leaser(pubsub=outside, held=held)
    settler = Settler(
        pubsub=outside,
        records=outside,
        held=held,
        leaser=leaser,
        endings=endings,
        clock=clock_that_jumps_after_the_claim(),
    )
    dispatch: Any = SimpleNamespace(take=outside.learned, tend=outside.tend)
    puller = Puller(
        pulls=SimpleNamespace(ask=outside.ask, take=outside.pulled),
        held=held,
        leaser=leaser,
        records=outside,
        reader=Reader(Rules.of(SETTINGS), endings),
        dispatch=outside,
        fleet=outside,
        flow=FlowControl(models=["a"], fleet=outside, held=held, dispatch=outside, dead_letters=settler.dead_letters),
    )
    yield Acknowledger(pubsub=outside, records=outside, blobs=outside, held=held)
    yield settler
    yield Collector(dispatch=dispatch, held=held, records=outside, leaser=leaser, endings=endings)
    yield SimpleNamespace(turn=lambda _: puller.turn())


def test_the_bridge_takes_the_steps_of_the_model_in_its_order() -> None:
    assert steps_of(Outside()) == BRIDGE


def test_the_bridge_ends_an_event_that_is_no_upload_in_silence() -> None:
    assert steps_of(Outside(eventType="OBJECT_DELETE", bucketId="b", objectId="o")) == SILENT


def test_the_bridge_ends_an_upload_that_turns_out_to_be_empty_in_silence() -> None:
    upload = {"eventType": "OBJECT_FINALIZE", "bucketId": "b", "objectId": "o", "objectGeneration": "5", "model": "a"}
    assert steps_of(Outside(outcome=Outcome.failed(EMPTY_OBJECT, "empty"), **upload)) == SILENT_AT_LAST


def steps_of(outside: Outside) -> tuple[str, ...]:
    parts = list(bridge_parts(outside))
    for _ in range(6):
        for part in parts:
            part.turn(0.0)
    return tuple(outside.steps)


class Results(DisabledBackend):
    """Celery's result backend, which only notes that it was asked to store."""

    def __init__(self, steps: list[str]) -> None:
        super().__init__(app)
        self._steps = steps

    def store_result(self, *args: Any, **kwargs: Any) -> None:
        self._steps.append("store")


@pytest.fixture
def worker_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    steps: list[str] = []
    monkeypatch.setattr(infer_chunk, "_backend", Results(steps))
    monkeypatch.setattr(infer_chunk, "__trace__", None)
    port.plug(StubEngine(lambda request: [request.uri]))
    yield steps
    port.plug(None)


def test_the_worker_takes_the_steps_of_the_model_in_its_order(worker_steps: list[str]) -> None:
    sent = app.amqp.as_task_v2("b.1", INFER_CHUNK, args=([{"model": "a", "uri": "gs://b/c"}],))
    message = SimpleNamespace(
        headers={**sent.headers, "ignore_result": False},
        properties=sent.properties,
        body=sent.body,
        payload=sent.body,
        content_type=None,
        content_encoding=None,
        delivery_info={},
        delivery_tag="t",
    )
    worker_steps.append("take")
    request = Request(message, app=app, decoded=True, on_ack=lambda *_: worker_steps.append("ack"))

    def run(trace: Any, *, args: tuple[Any, ...], callback: Any, **_: Any) -> None:
        """A pool without threads."""
        callback(trace(*args, app=app))

    request.execute_using_pool(SimpleNamespace(apply_async=run))

    assert tuple(worker_steps) == WORKER
