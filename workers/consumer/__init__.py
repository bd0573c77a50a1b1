"""Celery's side of a worker: a Redis transport that takes tasks atomically and only when there is room.

Comes in: tasks of any stock Celery or kombu publisher. Goes out: tasks to Celery's pool, acknowledgements and results
to Redis. Next: `lowtide.tasks.running`. An idle worker waits for a token (`lowtide.tasks.waking`).

A worker process calls `install` before it connects; nothing of kombu's is replaced, so other apps of the process have
kombu's own. Lists and messages are kombu's own, too: Flower and stock publishers notice nothing.
"""
