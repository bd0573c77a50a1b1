import time
from types import SimpleNamespace
from typing import Any

import pytest
from redis import ResponseError

from lowtide.tasks.caller import LOOK_S, Caller


def test_a_look_that_redis_refuses_is_not_repeated_before_unsent_chunks_are_sent() -> None:
    looks: list[object] = []

    def refuse(queues: object) -> list[str]:
        looks.append(queues)
        raise ResponseError("NOPERM")

    made: Any = Caller.__new__(Caller)  # no thread, no Redis
    made._sent, made._lost = {}, SimpleNamespace(look=refuse, suspects=False)
    made._look_every_s, made._next_look_s = LOOK_S, 0.0

    with pytest.raises(ResponseError):
        made._look_for_lost()
    made._look_for_lost()  # goes by, to what the thread does next

    assert len(looks) == 1
    assert made._next_look_s > time.monotonic()
