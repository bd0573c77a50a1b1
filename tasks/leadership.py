"""`Leadership`: which one of many processes does what one of them has to do."""

import logging

from redis import Redis, RedisError
from redis.exceptions import LockError
from redis.lock import Lock

log = logging.getLogger(__name__)


class Leadership:
    """A lock of redis-py's, which lapses `lapse_s` after its holder was last heard of. From one thread at a time."""

    def __init__(self, redis: Redis, key: str, *, lapse_s: float) -> None:
        self.held = False
        self.sure = True
        """Redis said so at the last `renew`."""
        self.anew = False
        """The last `renew` took it: another may have had it meanwhile, also if it was held before."""
        self._lock = Lock(redis, key, timeout=lapse_s, blocking=False, thread_local=False)

    def renew(self) -> bool:
        """Take it or keep it. While Redis is away, whoever had it has it."""
        self.anew = False
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
