"""Who holds what: take, acknowledge, give back, heartbeat and sweep, as scripts in Redis.

Comes in: lists that any stock Celery or kombu publisher filled. Goes out: tasks in the hash of the worker that took
them; those of a vanished worker back to their lists. Next: a worker's consumer, `lowtide.workers.consumer`.

Every bridge and worker runs a `Sweeper`. What is held or not due lies in keys of ours, so stock workers of other queues
notice nothing, nor do we of what they hold.
"""
