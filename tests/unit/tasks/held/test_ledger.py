from lowtide.tasks.held.ledger import HeldTask, Ledger, Released, delivery_of, incarnation_of


def held(tag: str, *, model: str | None = "m", requests: int = 1, by: str = "1") -> HeldTask:
    return HeldTask(incarnation=by, tag=tag, task=f"task-{tag}", model=model, requests=requests)


def test_work_is_requests_times_their_seconds() -> None:
    ledger = Ledger()
    for item in (held("a", requests=3), held("b", model="n", requests=2), held("c", model=None, requests=100)):
        ledger.add(item)
    assert ledger.work_s({"m": 0.5, "n": 0.25}.__getitem__) == 2.0
    ledger.release("1/a", done=True)
    assert ledger.work_s({"m": 0.5, "n": 0.25}.__getitem__) == 0.5
    assert len(ledger) == 2


def test_what_was_released_stays_until_it_is_written() -> None:
    ledger = Ledger()
    for tag in "abc":
        ledger.add(held(tag))
    ledger.release("1/b", done=False)
    ledger.release("1/a", done=True)
    expected = Released(done=(held("a"),), back=(held("b"),))
    assert ledger.released() == ledger.released() == expected
    assert {item.tag for item in ledger.everything()} == {"a", "b", "c"}
    ledger.written([held("a"), held("b")])
    assert ledger.released() == Released(done=(), back=())
    assert [item.tag for item in ledger.everything()] == ["c"]


def test_releasing_twice_or_the_unknown_changes_nothing() -> None:
    ledger = Ledger()
    ledger.add(held("a"))
    ledger.release("1/a", done=True)
    ledger.release("1/a", done=False)
    ledger.release("unknown", done=True)
    assert ledger.released() == Released(done=(held("a"),), back=())
    assert "1/a" not in ledger


def test_a_task_that_was_handed_back_and_came_again_counts_once() -> None:
    ledger = Ledger()
    ledger.add(held("a", requests=5))
    ledger.add(held("a", requests=5))
    assert ledger.work_s(lambda _: 1.0) == 5.0
    ledger.release("1/a", done=False)
    ledger.add(held("a", requests=5))
    assert ledger.released() == Released(done=(), back=())
    assert len(ledger.everything()) == 1


def test_what_was_given_up_and_came_again_is_another_delivery() -> None:
    ledger = Ledger()
    ledger.add(held("a"))
    ledger.add(held("a", by="2"))
    ledger.release(delivery_of("1", "a"), done=True)
    assert ledger.released() == Released(done=(held("a"),), back=())
    assert ledger["2/a"] == held("a", by="2")
    assert incarnation_of(held("a", by="2").delivery) == "2"
