from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lowtide.tasks.held.room import MESSAGES_PER_TURN, TAKE_MAX_MESSAGES, Budget, Turns, is_high
from lowtide.tasks.queues import caller_queue, model_of, topic_queue, worker_queues


@given(st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1))
def test_the_model_is_read_back_from_each_of_its_queues(model: str) -> None:
    queues = [caller_queue(model), caller_queue(model, "high"), topic_queue(model)]
    assert [model_of(queue) for queue in queues] == [model] * 3
    assert [is_high(queue) for queue in queues] == [False, True, False]


def test_other_queues_have_no_model_and_are_not_high() -> None:
    assert model_of("celery") is model_of("lowtide") is model_of("lowtide.") is None
    assert not is_high("other.high")


def test_an_idle_process_may_take_something_of_any_size() -> None:
    budget = Budget.of(prefetch=4, held=0, limit_s=0.2, work_s=0.0)
    assert not budget.empty


def test_the_budget_is_what_is_left_of_messages_and_of_work() -> None:
    assert Budget.of(prefetch=4, held=3, limit_s=0.2, work_s=0.15) == Budget(messages=1, work_s=0.2 - 0.15)
    assert Budget.of(prefetch=4, held=4, limit_s=0.2, work_s=0.0).empty
    assert Budget.of(prefetch=4, held=5, limit_s=0.2, work_s=0.0).empty
    assert Budget.of(prefetch=4, held=1, limit_s=0.2, work_s=0.2).empty
    assert Budget.of(prefetch=0, held=1000, limit_s=0.2, work_s=0.0).messages == TAKE_MAX_MESSAGES


def test_high_queues_come_first_and_the_turn_goes_round() -> None:
    turns, queues = Turns(0.1), worker_queues(["a", "b"])
    assert turns.order(queues) == list(queues)
    turns.served([("lowtide.a", 0.1)])
    assert turns.order(queues)[:3] == ["lowtide.a.high", "lowtide.b.high", "lowtide.a.topic"]
    turns.served([("lowtide.b.high", 5.0), ("lowtide.b.topic", 0.3)])
    assert turns.order(queues)[2] == "lowtide.a"


def test_a_turn_that_is_not_over_goes_on() -> None:
    turns, queues = Turns(0.1), worker_queues(["a"])
    turns.served([("lowtide.a", 0.04)])
    assert turns.order(queues)[1] == "lowtide.a"
    assert round(turns.left_s, 6) == 0.06
    turns.served([("lowtide.a", 0.06)])
    assert turns.order(queues)[1] == "lowtide.a.topic"
    assert turns.left_s == 0.1


def test_a_queue_of_no_known_cost_does_not_keep_its_turn() -> None:
    turns = Turns(0.1)
    turns.served([("x", 0.0)] * (MESSAGES_PER_TURN + 1))  # one more: the sum of fractions is not exact
    assert turns.order(["x", "y"]) == ["y", "x"]


def test_work_done_while_nobody_else_waited_gives_no_second_turn() -> None:
    turns = Turns(0.1)
    turns.served([("x", 0.1), ("x", 0.04)])
    assert turns.order(["x", "y"]) == ["y", "x"]


def test_a_queue_that_is_gone_does_not_confuse_the_order() -> None:
    turns = Turns(0.1)
    turns.served([("gone", 0.05)])
    assert turns.order(["x", "y"]) == ["x", "y"]


@given(st.lists(st.sampled_from([0.002, 0.02, 0.1]), min_size=2, max_size=2))
def test_two_full_queues_get_the_same_share_of_work(costs_s: list[float]) -> None:
    turns, queues = Turns(0.1), ["x", "y"]
    work_s: Counter[str] = Counter()
    for _ in range(2000):  # each take has room for one message
        queue = turns.order(queues)[0]
        cost_s = costs_s[queues.index(queue)]
        turns.served([(queue, cost_s)])
        work_s[queue] += cost_s
    assert max(work_s.values()) - min(work_s.values()) <= 0.25 * max(work_s.values()) + 0.5
