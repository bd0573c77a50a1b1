import math
from concurrent.futures import Future
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lowtide.tasks.wire.request import InferenceRequest, Priority
from lowtide.workers.engine.batch import PATIENCE_S, Batch, Batcher, Fired, Terms, Wait
from lowtide.workers.engine.job import Job, Ready

REQUESTS = {
    (model, priority): InferenceRequest(model=model, uri="u", priority=priority)
    for model in "mn"
    for priority in Priority
}
ITEMS = {shape: torch.zeros(shape) for shape in ((1,), (2,))}


def kind(ready: Ready) -> tuple[str, tuple[int, ...]]:
    return ready.job.request.model, tuple(ready.item.shape)


def due_s(ready: Ready) -> float:
    return min(ready.job.expires_s, ready.job.arrived_s + PATIENCE_S)


class Batches(RuleBasedStateMachine):
    """Items come, time passes, the device asks: in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.batcher = Batcher()
        self.now_s = 0.0
        self.inside: list[Ready] = []
        self.came_s: dict[int, float] = {}

    @initialize(wait_s=st.sampled_from([0.0, 0.5, 2.0]), batch_s=st.sampled_from([0.0, 0.5, 5.0]))
    def begin(self, wait_s: float, batch_s: float) -> None:
        self.wait_s, self.batch_s = wait_s, batch_s

    def terms(self, **fields: Any) -> Terms:
        given = {"most": lambda _: 3, **fields}
        return Terms(batch_s=lambda _: self.batch_s, wait_s=self.wait_s, **given)

    @rule(
        one_kind=st.sampled_from([("m", (1,)), ("m", (1,)), ("m", (2,)), ("n", (1,))]),
        priority=st.sampled_from([Priority.NORMAL, Priority.NORMAL, Priority.HIGH]),
        left_s=st.sampled_from([0.0, 0.3, 10.0, math.inf]),
        after_s=st.sampled_from([0.0, 0.1, PATIENCE_S - 5]),
    )
    def comes(self, one_kind: tuple[str, tuple[int, ...]], priority: Priority, left_s: float, after_s: float) -> None:
        model, shape = one_kind
        self.now_s += after_s
        job = Job(
            request=REQUESTS[model, priority],
            future=Future(),
            arrived_s=self.now_s,
            expires_s=self.now_s + left_s,
        )
        ready = Ready(job=job, item=ITEMS[shape])
        self.batcher.add(ready, self.now_s)
        self.inside.append(ready)
        self.came_s[id(ready)] = self.now_s

    @rule(after_s=st.sampled_from([0.0, 0.3, 5.0]), most=st.integers(1, 4), draining=st.booleans())
    def device_asks(self, after_s: float, most: int, draining: bool) -> None:
        self.now_s += after_s
        answer = self.batcher.next(self.now_s, self.terms(most=lambda _: most, draining=draining))
        if isinstance(answer, Batch):
            self.check_batch(answer, most)
        else:
            self.check_wait(answer, most, draining)

    @rule()
    def device_waits_as_long_as_it_is_told(self) -> None:
        answer = self.batcher.next(self.now_s, self.terms())
        if isinstance(answer, Wait) and self.inside:
            self.now_s = answer.until_s
            answer = self.batcher.next(self.now_s, self.terms())
            assert isinstance(answer, Batch), "it waited in vain"
        if isinstance(answer, Batch):
            self.check_batch(answer, 3)

    def check_batch(self, batch: Batch, most: int) -> None:
        left = [*batch.ready, *batch.expired]
        same = [ready for ready in self.inside if kind(ready) == kind(left[0])]
        # One model and shape, at most so many, and only of what is here: each leaves once.
        assert {kind(ready) for ready in left} == {kind(left[0])}
        assert batch.model == left[0].job.request.model
        assert len(batch.ready) <= most
        assert len({*map(id, left)}) == len(left)
        assert {*map(id, left)} <= {*map(id, self.inside)}
        # What has expired doesn't run, and what has not isn't thrown away.
        assert all(ready.job.expires_s > self.now_s for ready in batch.ready)
        assert all(ready.job.expires_s <= self.now_s for ready in batch.expired)
        # The urgent before the others, then who is due first: nobody of the same kind stands behind who ran later.
        order = [(not ready.job.urgent, due_s(ready)) for ready in batch.ready]
        assert order == sorted(order)
        self.inside = [ready for ready in self.inside if id(ready) not in {*map(id, left)}]
        stayed = [ready for ready in same if id(ready) not in {*map(id, left)}]
        assert all((not ready.job.urgent, due_s(ready)) >= max(order, default=(False, -math.inf)) for ready in stayed)
        assert not stayed or len(batch.ready) == most
        if batch.fired is not Fired.FULL and not self.wait_s:
            self.check_nobody_more_pressing_waits(left)

    def check_nobody_more_pressing_waits(self, left: list[Ready]) -> None:
        """Without a wait the most pressing of all kinds runs, so that who is due is not starved by another kind."""
        first = min((not ready.job.urgent, due_s(ready)) for ready in left)
        assert all((not ready.job.urgent, due_s(ready)) >= first for ready in self.inside)

    def check_wait(self, wait: Wait, most: int, draining: bool) -> None:
        assert wait.until_s > self.now_s
        assert not (draining and self.inside)
        for ready in self.inside:
            # A wait for a fuller batch is bounded, and costs nobody its deadline.
            assert wait.until_s <= self.came_s[id(ready)] + min(self.wait_s, self.batch_s)
            assert wait.until_s <= ready.job.expires_s - self.batch_s
            assert sum(kind(other) == kind(ready) for other in self.inside) < most

    @invariant()
    def counts(self) -> None:
        assert len(self.batcher) == len(self.inside)

    def teardown(self) -> None:
        """What came leaves, each once, when the engine closes."""
        while self.inside:
            batch = self.batcher.next(self.now_s, self.terms(draining=True))
            assert isinstance(batch, Batch)
            self.check_batch(batch, 3)


TestBatches = Batches.TestCase
TestBatches.settings = settings(stateful_step_count=30, max_examples=2 * settings().max_examples)
