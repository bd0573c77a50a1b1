import math
from concurrent.futures import Future

import torch
from hypothesis import given
from hypothesis import strategies as st

from lowtide.tasks.wire.request import InferenceRequest
from lowtide.workers.engine.batch import PATIENCE_S, Batch, Batcher, Fired, Terms, Wait
from lowtide.workers.engine.job import Job, Ready


def item(name: str = "", *, model: str = "m", shape: tuple[int, ...] = (1,), arrived_s: float = 0.0, **fields) -> Ready:
    priority = "high" if fields.pop("urgent", False) else "normal"
    request = InferenceRequest(model=model, uri=f"mem://{name}", priority=priority)
    job = Job(request=request, future=Future(), arrived_s=arrived_s, **fields)
    return Ready(job=job, item=torch.zeros(shape))


def terms(*, most: int = 4, batch_s: float = 0.0, wait_s: float = 0.0, draining: bool = False) -> Terms:
    return Terms(most=lambda _: most, batch_s=lambda _: batch_s, wait_s=wait_s, draining=draining)


def batcher_of(*items: Ready, now_s: float = 0.0) -> Batcher:
    batcher = Batcher()
    for ready in items:
        batcher.add(ready, now_s)
    return batcher


def names(batch: Batch | Wait) -> list[str]:
    assert isinstance(batch, Batch)
    return [str(ready.job.request.uri).removeprefix("mem://") for ready in batch.ready]


def fired(batch: Batch | Wait) -> Fired:
    assert isinstance(batch, Batch)
    return batch.fired


def test_every_reason_carries_the_sentence_that_defines_it() -> None:
    assert [str(reason) for reason in Fired] == ["full", "idle", "waited", "drain"]
    assert all(reason.sentence.endswith(".") for reason in Fired)


def test_nothing_ready_means_to_wait_until_something_is_added() -> None:
    assert Batcher().next(0.0, terms()) == Wait(math.inf)


def test_a_free_device_runs_what_is_there_at_once() -> None:
    batch = batcher_of(item("a"), item("b")).next(0.0, terms())
    assert (names(batch), fired(batch)) == (["a", "b"], Fired.IDLE)


def test_a_batch_is_never_larger_than_the_device_takes() -> None:
    batcher = batcher_of(*(item(str(i)) for i in range(5)))
    first, second = (batcher.next(0.0, terms(most=3)) for _ in range(2))
    assert (names(first), fired(first)) == (["0", "1", "2"], Fired.FULL)
    assert (names(second), fired(second)) == (["3", "4"], Fired.IDLE)
    assert len(batcher) == 0


def test_models_and_shapes_do_not_mix() -> None:
    batcher = batcher_of(item("a"), item("b", model="n"), item("c", shape=(2,)), item("d"))
    assert [names(batcher.next(0.0, terms())) for _ in range(3)] == [["a", "d"], ["b"], ["c"]]


def test_high_priority_goes_first_within_a_model_and_among_models() -> None:
    batcher = batcher_of(item("a"), item("b", urgent=True), item("c", model="n", urgent=True))
    assert names(batcher.next(0.0, terms(most=1))) == ["b"]
    assert names(batcher.next(0.0, terms(most=1))) == ["c"]


def test_who_expires_first_goes_first() -> None:
    batcher = batcher_of(item("a"), item("b", expires_s=9.0), item("c", expires_s=5.0))
    assert names(batcher.next(0.0, terms(most=2))) == ["c", "b"]


def test_who_never_expires_is_not_overtaken_for_ever() -> None:
    old = item("old", arrived_s=0.0)
    new = item("new", arrived_s=PATIENCE_S - 1, expires_s=PATIENCE_S + 1)
    assert names(batcher_of(new, old).next(PATIENCE_S - 1, terms(most=1))) == ["old"]


def test_who_expired_does_not_run_and_takes_no_place() -> None:
    batcher = batcher_of(item("late", expires_s=1.0), item("a"), item("b"))
    batch = batcher.next(1.0, terms(most=2))
    assert isinstance(batch, Batch)
    assert names(batch) == ["a", "b"]
    assert [ready.job.request.uri for ready in batch.expired] == ["mem://late"]


def test_a_wait_is_asked_for_and_bounded_by_one_batch_time() -> None:
    batcher = batcher_of(item("a"), now_s=10.0)
    asked = terms(wait_s=5.0, batch_s=0.5)
    assert batcher.next(10.0, asked) == Wait(10.5)
    batch = batcher.next(10.5, asked)
    assert (names(batch), fired(batch)) == (["a"], Fired.WAITED)


def test_nobody_waits_before_a_batch_was_measured() -> None:
    assert fired(batcher_of(item("a")).next(0.0, terms(wait_s=5.0, batch_s=0.0))) is Fired.IDLE


def test_a_full_batch_does_not_wait() -> None:
    assert fired(batcher_of(item("a"), item("b")).next(0.0, terms(most=2, wait_s=5.0, batch_s=1.0))) is Fired.FULL


def test_a_wait_costs_nobody_the_deadline() -> None:
    batcher = batcher_of(item("a"), item("b", expires_s=12.0), now_s=10.0)
    asked = terms(wait_s=5.0, batch_s=1.5)
    assert batcher.next(10.0, asked) == Wait(10.5)
    assert fired(batcher.next(10.5, asked)) is Fired.WAITED


def test_another_model_runs_while_one_waits() -> None:
    batcher = batcher_of(item("a"), item("b", model="n"))
    found = batcher.next(0.0, Terms(most=lambda model: 1 if model == "n" else 4, batch_s=lambda _: 1.0, wait_s=1.0))
    assert names(found) == ["b"]


def test_a_drain_waits_for_nothing() -> None:
    assert fired(batcher_of(item("a")).next(0.0, terms(wait_s=5.0, batch_s=1.0, draining=True))) is Fired.DRAIN


@given(
    st.lists(st.tuples(st.sampled_from("mn"), st.booleans(), st.sampled_from([1.0, 5.0, math.inf]))),
    st.integers(1, 5),
)
def test_whatever_comes_everything_leaves_exactly_once(kinds, most) -> None:
    items = [item(model=model, urgent=urgent, expires_s=expires_s) for model, urgent, expires_s in kinds]
    batcher = batcher_of(*items)
    left: list[Ready] = []
    while isinstance(batch := batcher.next(2.0, terms(most=most)), Batch):
        assert len(batch.ready) <= most
        assert {ready.job.request.model for ready in batch.ready} <= {batch.model}
        assert all(ready.job.expires_s <= 2.0 for ready in batch.expired)
        left += [*batch.ready, *batch.expired]
    assert sorted(map(id, left)) == sorted(map(id, items))
