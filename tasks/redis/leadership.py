"""`Leadership`: elects one of several processes, by a lock in Redis."""

import logging

from redis import Redis, RedisError
from redis.exceptions import LockError
from redis.lock import Lock

log = logging.getLogger(__name__)


# A plain `SET` is refused by a full Redis, which who leads may be needed to make emptier. A first write that needs no
# memory lets the script go on; of the lock's own name, as the user may have no right to another.
_ACQUIRE = """
local time = redis.call('TIME')
local now = string.format('%.6f', tonumber(time[1]) + tonumber(time[2]) / 1e6)
if redis.call('EXISTS', KEYS[1]) == 1 then
    return { 0, now }
end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return { 1, now }
"""


class _Lock(Lock):
    """Redis-py's, also to be had of a full Redis."""

    asked_at_s: float | None = None

    def do_acquire(self, token: str) -> bool:
        """Take it, if nobody has it."""
        acquire = self.redis.register_script(_ACQUIRE)
        acquired, now_s = acquire(keys=[self.name], args=[token, int((self.timeout or 0) * 1000)])
        self.asked_at_s = float(now_s)
        return bool(acquired)


class Leadership:
    """A lock of redis-py's, which lapses `lapse_s` after its holder was last heard of. From one thread at a time."""

    def __init__(self, redis: Redis, key: str, *, lapse_s: float) -> None:
        self.held = False
        self.sure = True
        """Redis said so at the last `renew`."""
        self.anew = False
        """The last `renew` took it: another may have had it meanwhile, also if it was held before."""
        self._lock = _Lock(redis, key, timeout=lapse_s, blocking=False, thread_local=False)

    @property
    def asked_at_s(self) -> float | None:
        """Redis' time when the last `renew` asked whether anybody has it; None: it need not, or had no answer."""
        return self._lock.asked_at_s

    def renew(self) -> bool:
        """Take it or keep it. While Redis is away, whoever had it has it."""
        self.anew, self._lock.asked_at_s = False, None
        try:
            kept = self._keep()
            self.held = kept or bool(self._lock.acquire())
            self.anew = self.held and not kept
            self.sure = True
        except RedisError as error:
            self.sure = False
            log.debug("leadership is as it was: %s", error)
        return self.held

    def give_up(self) -> None:
        """So that another need not wait."""
        try:
            if self.held:
                self._lock.release()
        except RedisError as error:
            log.debug("leadership lapses by itself: %s", error)
        self.held = False

    def _keep(self) -> bool:
        try:
            return self.held and bool(self._lock.reacquire())
        except LockError:
            return False  # lapsed, or Redis came back empty
