import json
from typing import Any

import pytest

from lowtide.tasks.transport.envelope import Unreadable, redelivered, revive, task_of


def message(**properties: Any) -> dict[str, Any]:
    return {"body": "…", "headers": {"id": "t", "n": 1.5}, "properties": {"delivery_info": {}, **properties}}


def test_a_message_goes_back_whole_but_for_the_mark() -> None:
    sent = message(priority=0, when={"__type__": "datetime", "__value__": "2026-01-01T00:00:00"})
    revived = revive(b"lowtide.m\n" + json.dumps(sent, indent=1).encode())
    again = json.loads(revived.raw)
    assert (revived.list, revived.task) == ("lowtide.m", "t")
    assert redelivered(again)
    assert not redelivered(sent)
    assert again.pop("headers") == {**sent.pop("headers"), "redelivered": True}
    assert again["properties"].pop("delivery_info") == {"redelivered": True}
    sent["properties"].pop("delivery_info")
    assert again == sent


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"[1, 2]", b"{}", b"null", b"\xff", b"5", b'{"headers": {}}'])
def test_what_is_no_message_says_so(raw: bytes) -> None:
    with pytest.raises(Unreadable):
        revive(b"lowtide.m\n" + raw)
    with pytest.raises(Unreadable):
        revive(raw)


def test_a_message_that_is_no_task_has_no_id() -> None:
    assert task_of({}) == task_of({"headers": None}) == task_of({"headers": {"id": 5}}) == ""
    assert task_of({"headers": {"id": "\ud800"}}) == "", "or its keys would fail whoever touches or reaps"
