"""Notices that Redis lost data: another server process (run id), or another epoch than the one remembered."""

import uuid
from typing import Any

from redis import Redis, RedisError

from lowtide.tasks.redis.connect import newest_connection
from lowtide.tasks.redis.keys import Keys


class Epoch:
    """Remembers which Redis this process spoke to. Use from one thread.

    A look costs a GET, and an INFO after each new connection. A restart breaks every connection, so a changed run id is
    seen then. A server that was emptied, and another one behind a proxy, may keep connections: their epoch is another.
    What a replica that lagged lacks is found by `LostTasks`.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        """`redis`: one of `lowtide.tasks.redis.connect`."""
        self._redis = redis
        self._keys = keys
        self._newest: object = None
        self._run_id = ""
        self._seen: tuple[str, str] | None = None

    def changed(self) -> bool:
        """True once after Redis restarted or was emptied: what it held may be gone. Raises RedisError."""
        epoch = self._redis.get(self._keys.epoch)
        if epoch is None:  # only then: a full Redis refuses a SET, also one that would change nothing
            self._redis.set(self._keys.epoch, uuid.uuid4().hex, nx=True)
            epoch = self._redis.get(self._keys.epoch)
        # After the GET, whose own connection may be the new one.
        now = (str(epoch), self._run_id_now())
        before, self._seen = self._seen, now
        return before is not None and before != now

    def _run_id_now(self) -> str:
        # Before INFO: what connects meanwhile may be answered by another server already.
        newest = newest_connection(self._redis)
        if newest is not self._newest:
            self._run_id, self._newest = self._asked(), newest
        return self._run_id

    def _asked(self) -> str:
        """Nothing for who may not ask (ACL): they learn of data that is gone by the epoch alone."""
        with self._redis.pipeline(transaction=False) as pipe:  # answers a refusal as well, and raises what is no answer
            pipe.info("server")
            (server,) = pipe.execute(raise_on_error=False)
        answer: Any = {} if isinstance(server, RedisError) else server
        return str(answer.get("run_id", ""))
