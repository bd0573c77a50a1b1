"""One task's requests on their way through the engine: all at once or, after a loss, in solo mode.

Comes in: requests of a task that Celery runs. Goes out: an outcome of each. Next: the engine, behind
`lowtide.tasks.port`.
"""
