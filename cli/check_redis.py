"""What `lowtide doctor` says of Redis."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from redis import RedisError

from lowtide.cli.findings import Finding, failed, ok, warning
from lowtide.config import Settings
from lowtide.tasks.store import connect

REDIS_NEEDED = (6, 2)
CLOCK_SKEW_S = 5.0


def redis(settings: Settings) -> Iterator[Finding]:
    """Reachable, new enough, keeps what it is told, and agrees about the time.

    INFO says it all; a managed Redis refuses CONFIG.
    """
    what = "Redis"
    client = connect(settings)
    try:
        info: Mapping[str, Any] = client.info()
        skew_s = abs(client.time()[0] - time.time())
    except RedisError as error:
        yield failed(what, f"not reachable: {error}", "start it, or set LOWTIDE_REDIS_URL")
        return
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < REDIS_NEEDED:
        yield failed(what, f"version {version}", "workers need Redis 6.2 or later (BLMOVE)")
    else:
        yield ok(what, f"version {version}")
    if info["aof_enabled"]:
        yield ok(what, "appendonly yes")
    else:
        yield warning(what, "appendonly no: a restart loses what Python callers sent", "CONFIG SET appendonly yes")
    policy = info["maxmemory_policy"]
    if policy == "noeviction":
        yield ok(what, "maxmemory-policy noeviction")
    else:
        yield failed(what, f"{policy}: Redis may drop tasks when full", "CONFIG SET maxmemory-policy noeviction")
    if skew_s > CLOCK_SKEW_S:
        yield warning(what, f"its clock differs from ours by {skew_s:.0f} s", "synchronise clocks: expiry goes wrong")
