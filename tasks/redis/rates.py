"""How fast models are, as workers measured it: `RateTeller` writes it, bridges and callers pack by it."""

import math
from contextlib import suppress
from typing import Any

from redis import Redis

from lowtide.tasks.redis.keys import Keys


def measured(redis: Redis, keys: Keys) -> dict[str, float]:
    """Model → device seconds per request. Without what is no rate: another release or another program wrote it. Raises
    RedisError.
    """
    found: Any = redis.hgetall(keys.rates)
    rates: dict[str, float] = {}
    for model, said in found.items():
        with suppress(ValueError):
            if 0 < (rate_s := float(said)) < math.inf:
                rates[model.decode()] = rate_s
    return rates
