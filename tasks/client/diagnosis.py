"""Explains to a caller who waits, from what Redis shows, why no answer comes."""

from collections.abc import Collection

from redis import Redis, RedisError

from lowtide.tasks.queues import lists_of, worker_queues
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.registry import UNREADABLE, live, models_of
from lowtide.tasks.redis.trouble import trouble_of


def why_unanswered(redis: Redis, keys: Keys, models: Collection[str]) -> str:
    """What stands between requests of these models and their answers. O(workers)."""
    try:
        statuses = live(redis, keys, "worker")
        theirs = models_of(statuses)
        with redis.pipeline(transaction=False) as pipe:
            for name in (name for queue in worker_queues(models) for name in lists_of(queue)):
                pipe.llen(keys.queue(name))
            waiting = sum(pipe.execute())
    except RedisError as error:
        return f"Redis can't be asked: {trouble_of(error)}"
    except UNREADABLE as error:
        return f"what workers say of themselves in Redis can't be read: {type(error).__name__}"
    queued = f"{_counted(waiting, 'task waits', 'tasks wait')} in the queues of {_names(models)}"
    if not statuses:
        return f"no worker is alive, {queued}; a fleet that follows the work starts one in some minutes"
    if lacking := set(models) - theirs:
        return f"no live worker serves {_names(lacking)}, they serve {_names(theirs)}; {queued}"
    suspects = sum(bool(status.get("suspect")) for status in statuses.values())
    alive = (
        _counted(len(statuses), "worker is", "workers are") + " alive" + (f", {suspects} suspect" if suspects else "")
    )
    return f"{alive}, {queued}"


def _counted(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"


def _names(models: Collection[str]) -> str:
    return ", ".join(sorted(models)) or "nothing"
