"""What `lowtide doctor` says of Redis."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from redis import Redis, RedisError, ResponseError
from redis.exceptions import NoPermissionError

from lowtide.cli.checks.findings import Finding, failed, ok, warning
from lowtide.config import Settings
from lowtide.config.addresses import at
from lowtide.config.redis_url import RedisAddress
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.protocol import check
from lowtide.tasks.redis.rights import Access
from lowtide.tasks.redis.trouble import trouble_of

WHAT = "Redis"
REDIS_NEEDED = (6, 2)
CLOCK_SKEW_S = 5.0


def redis(settings: Settings) -> Iterator[Finding]:
    """Reachable, lets us do what a fleet does, new enough, keeps what it is told, and agrees about the time."""
    client, address = connect(settings), RedisAddress.of(settings.redis_url)
    try:
        check(client, Keys.of(settings))
        lacks = Access.of(settings).missing(client)
        info = _info(client)
        stuck = list(_stuck(client, Keys.of(settings)))
        skew_s = 0.0 if any(lack.rule == "+time" for lack in lacks) else abs(client.time()[0] - time.time())
    except RedisError as error:
        trouble = trouble_of(error)
        yield failed(WHAT, f"at {at(address.host, address.port)}: {trouble.what}", trouble.remedy)
        return
    user = address.username or "default"
    for lack in lacks:
        yield failed(WHAT, f"the user {user} may not use {lack.what}", f"ACL SETUSER {user} {lack.rule}")
    yield from stuck
    if info is None:
        yield warning(
            WHAT,
            f"the user {user} may not run INFO: its version and whether it keeps its data can't be seen, nor can a "
            "fleet tell that it restarted and lost its last second",
            f"ACL SETUSER {user} +info, and no rename-command of it",
        )
    else:
        yield from _about(info)
    if skew_s > CLOCK_SKEW_S:
        yield warning(WHAT, f"its clock differs from ours by {skew_s:.0f} s", "synchronise clocks: expiry goes wrong")


def _stuck(client: Redis, keys: Keys) -> Iterator[Finding]:
    """Tasks that vanished workers held and that have no queue to go back to."""
    try:
        one: Any = client.hrandfield(keys.stuck, 1, withvalues=True)
        count = client.hlen(keys.stuck)
    except ResponseError:
        return  # no right to look, which is told of as such
    if one:
        name = bytes(one[1]).partition(b"\n")[0].decode(errors="replace")
        yield failed(
            WHAT,
            f"{count} tasks can't go back to their queue: something that is no list is called {name!r}",
            "rename or delete that key; the tasks, which are kept, go back within a minute",
        )


def _info(client: Redis) -> Mapping[str, Any] | None:
    """What it says of itself, None if it does not let us ask. A managed Redis refuses CONFIG, which says less."""
    try:
        found: Mapping[str, Any] = client.info()
    except ResponseError as error:
        if isinstance(error, NoPermissionError) or "unknown command" in str(error):
            return None
        raise
    return found


def _about(info: Mapping[str, Any]) -> Iterator[Finding]:
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < REDIS_NEEDED:
        yield failed(WHAT, f"version {version}", "a fleet needs Redis 6.2 or later")
    else:
        yield ok(WHAT, f"version {version}")
    if info["aof_enabled"]:
        yield ok(WHAT, "appendonly yes")
    else:
        yield warning(
            WHAT,
            "appendonly no: a restart loses what Python callers sent",
            "CONFIG SET appendonly yes; Memorystore for Redis has no such file: give it a replica",
        )
    policy = info["maxmemory_policy"]
    if policy == "noeviction":
        yield ok(WHAT, "maxmemory-policy noeviction")
    else:
        yield failed(
            WHAT,
            f"maxmemory-policy {policy}: when it is full it drops what a fleet needs",
            "CONFIG SET maxmemory-policy noeviction; of Memorystore: gcloud redis instances update "
            "--update-redis-config maxmemory-policy=noeviction",
        )
