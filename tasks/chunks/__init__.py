"""Chunks: requests of one model that travel as one Celery task, from a bridge or from a caller.

Comes in: requests. Goes out: a task on Redis, its content beside it; and what became of it. Next: a worker's `Run`.
"""
