"""Where callbacks go: what is to run after a task of ours (`link`, `link_error`, the rest of a chain, a chord's body).

Whoever finishes a task sends its callbacks: here a worker, which knows nothing of the caller's app. So the caller's
process asks that app where it would send them, and writes that down in a header of the task.
"""

# mypy: disallow-untyped-calls=False
# Celery has no types.

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from celery import Celery, _state
from celery.app import app_or_default

CALLBACKS_HEADER = "lowtide-callbacks"
"""Header of a task: JSON object, a callback's task name → the queue that it goes to; `*` stands for all others."""

OTHERS = "*"
CELERYS_OWN = "default"
"""The name of the app that Celery makes up for a process, or a thread, that has none."""
PLACED = frozenset({"queue", "exchange", "routing_key"})
"""A signature with one of these options says itself where it goes."""


def queues_of(options: Mapping[str, Any], *, ours: Celery) -> dict[str, str]:
    """The queues of the callbacks that `options` of an `apply_async` name, and of whatever follows them, as the calling
    app would choose them. A task of a worker's passes on what it has been told.
    """
    if told := _told():
        return told
    given = (options.get(name) for name in ("link", "link_error", "chain", "chord"))
    signatures = list(chain.from_iterable(map(_signatures, given)))
    queues: dict[str, str | None] = {}
    for signature in signatures:
        app = _app_of(signature, ours) or _calling_app(ours)
        if app is not None:
            queues.setdefault(OTHERS, app.conf.task_default_queue)
            if not PLACED & signature.get("options", {}).keys():
                queues.setdefault(signature["task"], _chosen(app, signature))
    return {name: queue for name, queue in queues.items() if queue and (name == OTHERS or queue != queues[OTHERS])}


def default_queue(*, ours: Celery) -> dict[str, str]:
    """The same for callbacks that nobody knows yet: those of a signature, which others may send."""
    if told := _told():
        return told
    app = _calling_app(ours)
    return {} if app is None else {OTHERS: app.conf.task_default_queue}


def queue_of(name: str, *, ours: Celery) -> str | None:
    """Where a task that isn't ours is sent from here; None when nothing tells."""
    if told := _told():
        return told.get(name) or told.get(OTHERS)
    app = _calling_app(ours)
    return None if app is None else _chosen(app, {"task": name})


def _told() -> dict[str, str]:
    """What the task that runs in this thread, in a worker, has been told."""
    running = _state.get_current_worker_task()
    told = None if running is None else running.request.get(CALLBACKS_HEADER)
    if not isinstance(told, Mapping):
        return {}
    return {name: queue for name, queue in told.items() if isinstance(queue, str) and queue}


def _signatures(given: Any) -> Iterator[Mapping[str, Any]]:
    """The tasks in a signature, or in a list of them, with those that follow them."""
    if isinstance(given, list | tuple):
        for each in given:
            yield from _signatures(each)
    elif isinstance(given, Mapping) and isinstance(given.get("task"), str):
        kwargs, options = given.get("kwargs") or {}, given.get("options") or {}
        inside = [kwargs.get(name) for name in ("tasks", "header", "body")] if given.get("subtask_type") else []
        if not inside:
            yield given
        after = (options.get(name) for name in ("link", "link_error", "chain", "chord"))
        for each in (*inside, *after):
            yield from _signatures(each)


def _app_of(signature: Any, ours: Celery) -> Celery | None:
    """The app that made the signature; Celery gives one in a canvas the app of its first task, which may be ours."""
    apps: Iterable[Any] = (getattr(getattr(signature, "_type", None), "app", None), getattr(signature, "_app", None))
    return next((app for app in apps if app is not None and app is not ours), None)


def _calling_app(ours: Celery) -> Celery | None:
    """The app of this process, beside ours. A thread that didn't make it doesn't have it as its current one."""
    current = app_or_default()
    if current is not ours and current.main != CELERYS_OWN:
        return current
    others = [app for app in _state._get_active_apps() if app is not ours and app.main != CELERYS_OWN]
    return others[0] if len(others) == 1 and current is not ours else None


def _chosen(app: Celery, signature: Mapping[str, Any]) -> str | None:
    """The queue that an app would send the task to: the task's own, its routes', its default one."""
    task = app._tasks.get(signature["task"])
    options = {"queue": task.queue} if getattr(task, "queue", None) else {}
    args, kwargs = tuple(signature.get("args") or ()), signature.get("kwargs") or {}
    queue = app.amqp.router.route(options, signature["task"], args, kwargs, task).get("queue")
    return None if queue is None else str(queue.name)
