import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.redis import Channel

from lowtide.tasks.transport.envelope import Unreadable, priority_step, redelivered, revive, task_of


def message(**properties: Any) -> dict[str, Any]:
    return {"body": "…", "headers": {"id": "t", "n": 1.5}, "properties": {"delivery_info": {}, **properties}}


def test_a_message_goes_back_whole_but_for_the_mark() -> None:
    sent = message(priority=0, when={"__type__": "datetime", "__value__": "2026-01-01T00:00:00"})
    revived = revive(json.dumps([sent, "", "lowtide.m"]))
    again = json.loads(revived.raw)
    assert (revived.list, revived.task) == ("lowtide.m", "t")
    assert redelivered(again)
    assert not redelivered(sent)
    assert again.pop("headers") == {**sent.pop("headers"), "redelivered": True}
    assert again["properties"].pop("delivery_info") == {"redelivered": True}
    sent["properties"].pop("delivery_info")
    assert again == sent


@pytest.mark.parametrize("entry", ["", "nonsense", "[1, 2]", '[{}, "", "q"]', "[null, null, null]", b"\xff", "5"])
def test_what_is_no_message_says_so(entry: str) -> None:
    with pytest.raises(Unreadable):
        revive(entry)


@given(st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.just("7")))
def test_the_priority_is_kombus(priority: object) -> None:
    channel = Channel.__new__(Channel)
    try:
        number = Channel._get_message_priority(channel, {"properties": {"priority": priority}})
    except OverflowError:  # kombu's int(inf)
        return
    if not isinstance(priority, float):  # which JSON publishers don't send, and kombu cuts
        assert priority_step(priority) == channel.priority(number)


def test_a_message_that_is_no_task_has_no_id() -> None:
    assert task_of({}) == task_of({"headers": None}) == task_of({"headers": {"id": 5}}) == ""
