"""Names of the queues, and which queue a request travels on. Pure."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from lowtide.tasks.wire.request import Priority
from lowtide.tasks.wire.version import wire_version_of

CHUNK_COUNT_HEADER = "lowtide-n"
"""Header with the number of requests in a task: what the backlog is counted in."""

SENT_AT_HEADER = "lowtide-at"
"""Header with the Unix time at which the oldest request in a task was published or sent."""

WIRE_VERSION_HEADER = "lowtide-v"
"""Header with the wire version that a worker must read for this task (`wire.version.WIRE_VERSION`). Without it: 1."""

PRIORITY_STEPS = tuple(range(10))
"""Kombu puts a task of a priority that isn't 0 into another list: its own steps are 0, 3, 6 and 9, and a caller may set
others (`priority_steps`). These are all that there can be.
"""

SEPARATOR = "\x06\x16"
"""Kombu's, between a queue's name and the step."""

PREFIX = "lowtide."
"""What the names of our tasks and queues begin with."""
HIGH = ".high"
TOPIC = ".topic"
"""What the names of queues end with that are urgent, or a bridge's."""


def caller_queue(model: str, priority: str = Priority.NORMAL) -> str:
    """The queue that Python callers use for `model`."""
    return f"{PREFIX}{model}{HIGH if priority == Priority.HIGH else ''}"


def topic_queue(model: str) -> str:
    """The queue that the bridge uses for `model`: apart, so that neither door starves the other."""
    return f"{PREFIX}{model}{TOPIC}"


def worker_queues(models: Iterable[str]) -> tuple[str, ...]:
    """Every queue that a worker of these models consumes, `.high` first."""
    names = tuple(models)
    return (
        *(caller_queue(model, Priority.HIGH) for model in names),
        *(queue for model in names for queue in (caller_queue(model), topic_queue(model))),
    )


def lists_of(queue: str) -> tuple[str, ...]:
    """The Redis lists of a queue as stock callers name them, most urgent first."""
    return tuple(f"{queue}{SEPARATOR}{step}" if step else queue for step in PRIORITY_STEPS)


def model_of(queue: str) -> str | None:
    """The model whose requests travel on `queue`; None for a queue that isn't ours."""
    if not queue.startswith(PREFIX):
        return None
    return queue.removeprefix(PREFIX).removesuffix(HIGH).removesuffix(TOPIC) or None


def headers_of(requests: Collection[Mapping[str, Any]], *, sent_at: float) -> dict[str, Any]:
    """What the headers of a task say of its requests, the oldest of which was published or sent at `sent_at`."""
    return {
        CHUNK_COUNT_HEADER: len(requests),
        SENT_AT_HEADER: round(sent_at, 3),
        WIRE_VERSION_HEADER: wire_version_of(requests),
    }


def wire_version(headers: Mapping[str, Any]) -> int:
    """The version that a message is written in; 1 when its sender doesn't say, as stock Celery callers."""
    version = headers.get(WIRE_VERSION_HEADER)
    return version if isinstance(version, int) else 1


def heard_of(queues: Collection[str]) -> list[str]:
    """The models of which every queue is among these: who listens to some of them has no use for a wake that may be of
    the others.
    """
    models, heard = dict.fromkeys(filter(None, map(model_of, queues))), set(queues)
    return [model for model in models if heard.issuperset(worker_queues([model]))]


def route(
    name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Mapping[str, Any], task: Any = None, **_: Any
) -> dict[str, str] | None:
    """Celery's router: a task goes to the queue of its first request's model, unless the caller named a queue. So does
    `celery.map` of a task, which Celery routes by the task's name.
    """
    if not name.startswith(PREFIX):  # a callback, whose arguments may look like a request
        return None
    first = args[0] if args else kwargs.get("request") or kwargs.get("requests") or kwargs.get("it")
    while isinstance(first, list | tuple) and first:
        first = first[0]
    if not isinstance(first, Mapping) or not isinstance(first.get("model"), str):
        return None
    return {"queue": caller_queue(first["model"], str(first.get("priority", Priority.NORMAL)))}
