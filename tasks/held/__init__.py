"""Who holds what: take, acknowledge, hand back, heartbeat and sweep, as scripts in Redis.

Comes in: lists that any stock Celery or kombu publisher filled. Goes out: tasks in the hash of the worker that took
them; those of a vanished worker back to their lists. Next: a worker's consumer, `lowtide.workers.consumer`.

Every bridge and worker runs a `Sweeper`. Tasks that are held or not due lie in keys of ours: Celery workers of other
applications never see them, nor do we see theirs.
"""
