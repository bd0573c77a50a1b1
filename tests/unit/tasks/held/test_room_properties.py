from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lowtide.tasks.held.room import Budget, Turns, is_high

QUEUES = ("lowtide.a.high", "lowtide.a", "lowtide.a.topic", "lowtide.b", "celery")
TURN_S = 0.1
LARGEST_S = 0.25


class Takes(RuleBasedStateMachine):
    """Messages come into queues, and a worker takes them as take.lua does, in turns."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = Turns(TURN_S)
        self.queues: dict[str, deque[float]] = {name: deque() for name in QUEUES}
        self.passed_by: dict[str, dict[str, float]] = {name: dict.fromkeys(QUEUES, 0.0) for name in QUEUES}

    @initialize(served=st.permutations(QUEUES))
    def begin(self, served: list[str]) -> None:
        self.served = served

    @rule(
        name=st.sampled_from(QUEUES),
        cost_s=st.sampled_from([0.0, 0.01, 0.1, LARGEST_S]),
        count=st.sampled_from([1, 3, 400]),
    )
    def come(self, name: str, cost_s: float, count: int) -> None:
        if not self.queues[name]:
            self.passed_by[name] = dict.fromkeys(QUEUES, 0.0)
        self.queues[name] += [cost_s] * count

    @rule(messages=st.integers(0, 70), work_s=st.sampled_from([0.001, 0.05, 0.2, 3.0]))
    def worker_takes(self, messages: int, work_s: float) -> None:
        order = self.turns.order(self.served)
        assert sorted(order) == sorted(QUEUES)
        assert [is_high(name) for name in order] == sorted((is_high(name) for name in order), reverse=True)
        assert 0 < self.turns.left_s <= TURN_S
        taken = self.taken(order, Budget(messages=messages, work_s=work_s))
        self.turns.served(taken)
        assert not (taken and self.queues["lowtide.a.high"] and any(not is_high(name) for name, _ in taken))

    def taken(self, order: list[str], budget: Budget) -> list[tuple[str, float]]:
        """take.lua, without Redis."""
        taken: list[tuple[str, float]] = []
        left = [budget.messages, budget.work_s]

        def pop(name: str) -> float | None:
            if left[0] <= 0 or left[1] <= 0 or not self.queues[name]:
                return None
            cost_s = self.queues[name].popleft()
            taken.append((name, cost_s))
            left[0], left[1] = left[0] - 1, left[1] - cost_s
            self.note(name, max(cost_s, self.turns.least_s))
            return max(cost_s, self.turns.least_s)

        for name in filter(is_high, order):
            while pop(name) is not None:
                pass
        others, left_s, any_ = [name for name in order if not is_high(name)], self.turns.left_s, True
        while any_:
            any_ = False
            for name in others:
                while left_s > 0 and (cost_s := pop(name)) is not None:
                    any_, left_s = True, left_s - cost_s
                left_s = TURN_S
        return taken

    def note(self, name: str, cost_s: float) -> None:
        """How much of `name` went past each queue that waits; being served, `name` itself starts over."""
        if is_high(name):
            return
        for waiting in QUEUES:
            if waiting != name and self.queues[waiting]:
                self.passed_by[waiting][name] += cost_s
        self.passed_by[name] = dict.fromkeys(QUEUES, 0.0)

    @invariant()
    def nobody_waits_longer_than_a_turn_of_each_other(self) -> None:
        """Nor, since turns are never broken off, longer than the turn that is under way and one more."""
        for name in QUEUES:
            if self.queues[name] and not is_high(name):
                assert max(self.passed_by[name].values()) <= 2 * TURN_S + LARGEST_S + 1e-9


TestTakes = Takes.TestCase
TestTakes.settings = settings(stateful_step_count=30)
