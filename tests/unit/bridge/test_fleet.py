from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from redis import ResponseError

from lowtide.bridge.fleet import FleetReader
from lowtide.config import load_settings
from lowtide.tasks.chunks.packing import GUESSED_RATE_S
from lowtide.tasks.redis.keys import Keys


def test_what_others_have_written_ends_no_bridge_and_makes_no_rate() -> None:
    rates = {b"a": b"0.25", b"b": b"fast", b"c": b"nan", b"d": b"inf", b"e": b"-1", b"f": b"0", b"\xff": b"1"}
    redis: Any = SimpleNamespace(
        register_script=lambda text: lambda keys, args: 2,
        hgetall=lambda key: rates,
        zrange=lambda key, first, last: [],
        info=lambda section: {},
        pipeline=lambda **_: nullcontext(SimpleNamespace(llen=lambda key: None, execute=lambda: [3])),
    )
    reader = FleetReader(redis, Keys(""), load_settings(project="p", models="a,b,c"), bridge="b")

    fleet = reader.read()
    assert (fleet.workers, fleet.waiting) == (2, 3)
    assert {name: reader.packing.request_s(name) for name in "abcdef"} == {
        "a": 0.25,
        **dict.fromkeys("bcdef", GUESSED_RATE_S),
    }


@pytest.mark.parametrize(("info", "redis_max_bytes"), [({"maxmemory": 7}, 7), ({}, 0), (ResponseError("unknown"), 0)])
def test_what_redis_may_hold_is_asked_once_a_minute_and_may_be_hidden(info: Any, redis_max_bytes: int) -> None:
    asked: list[float] = []

    def tell(section: str) -> Any:
        asked.append(now_s)
        if isinstance(info, Exception):
            raise info
        return info

    now_s = 100.0
    redis: Any = SimpleNamespace(
        register_script=lambda text: lambda keys, args: 0,
        hgetall=lambda key: {},
        zrange=lambda key, first, last: [],
        info=tell,
        pipeline=lambda **_: nullcontext(SimpleNamespace(llen=lambda key: None, execute=lambda: [0])),
    )
    settings = load_settings(project="p", models="a")
    reader = FleetReader(redis, Keys(""), settings, bridge="b", clock=lambda: now_s)
    for _ in range(100):
        now_s += 1.0
        assert reader.read().redis_max_bytes == redis_max_bytes

    assert asked == [101, 161]
