"""Notices that Redis lost data: another server process (run id), or another epoch than the one remembered."""

import uuid

from redis import Redis, RedisError

from lowtide.tasks.keys import Keys


class Epoch:
    """Remembers which Redis this process spoke to. Use from one thread."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._seen: tuple[str, str] | None = None

    def changed(self) -> bool:
        """True once after Redis restarted or was emptied: what it held may be gone. Raises RedisError."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(self._keys.epoch)
            pipe.info("server")
            epoch, server = pipe.execute(raise_on_error=False)
        if isinstance(epoch, RedisError):
            raise epoch
        if epoch is None:  # only then: a full Redis refuses a SET, also one that would change nothing
            self._redis.set(self._keys.epoch, uuid.uuid4().hex, nx=True)
            epoch = self._redis.get(self._keys.epoch)
        # Who may not ask for it (ACL) learns of data that is gone by the epoch alone.
        run_id = "" if isinstance(server, RedisError) else str(server["run_id"])
        now = (str(epoch), run_id)
        before, self._seen = self._seen, now
        return before is not None and before != now
