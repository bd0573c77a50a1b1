from typing import Any

import pytest

from lowtide.workers.consumer.envelope import mark_redelivered, redelivered, task_of


@pytest.mark.parametrize("properties", [{}, {"delivery_info": {"exchange": ""}}])
def test_a_message_that_was_held_before_says_so_to_celery(properties: dict[str, Any]) -> None:
    message = {"headers": {"id": "t"}, "properties": properties}
    assert not redelivered(message)
    mark_redelivered(message)
    assert redelivered(message)
    assert message["headers"] == {"id": "t", "redelivered": True}


def test_a_message_that_is_no_task_has_no_id() -> None:
    assert task_of({}) == task_of({"headers": None}) == task_of({"headers": {"id": 5}}) == ""
    assert task_of({"headers": {"id": "\ud800"}}) == "", "or its keys would fail whoever takes it"
