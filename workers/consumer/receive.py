"""What a worker does with a task's message before the task runs.

It is shown (in Flower, in `celery inspect`, in logs) as "digits × 64", whatever its sender wrote: a stock caller's own
description holds content and signed URLs. What a newer release sent goes back to its queue, unharmed. And what is not
due yet is not held here.
"""

# mypy: disallow-untyped-calls=False, disallow-subclassing-any=False
# Celery has no types.

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from celery import Celery
from celery.exceptions import InvalidTaskError
from celery.utils.objects import Bunch
from celery.utils.time import maybe_iso8601, maybe_make_aware
from celery.worker import request
from celery.worker.consumer import consumer as consuming
from celery.worker.strategy import default
from kombu.exceptions import ContentDisallowed, DecodeError

from lowtide.config.redact import redacted
from lowtide.tasks.errors import InvalidRequest, RequestFailed
from lowtide.tasks.infer import InferTask, describe
from lowtide.tasks.queues import wire_version
from lowtide.tasks.wire.version import WIRE_VERSION
from lowtide.workers.consumer.channel import QoS
from lowtide.workers.consumer.intake import CHOKED

log = logging.getLogger(__name__)

HOLD_BACK_S = 2.0
"""Long enough that two old workers don't pass a task to and fro all the time, short beside a roll-out."""

JSON_ONLY = "tasks are JSON, and read as nothing else: set task_serializer to json"
MAPS = ("celery.map", "celery.starmap", "celery.chunks")

REFUSALS = {
    consuming.UNKNOWN_FORMAT: "a message is no task: dropped",
    consuming.UNKNOWN_TASK_ERROR: "no task is called %.200s: dropped",
    consuming.INVALID_TASK_ERROR: "a task is malformed: dropped",
    consuming.MESSAGE_DECODE_ERROR: "a message's body can't be decoded: dropped",
}
"""What Celery logs when it refuses a message, with all that is in it; and what is to be shown instead."""

_told: set[int] = set()


def leave_unquoted(app: Celery) -> None:
    """From now on Celery's log says that it refuses a message, and not what is in it; and its own tasks that run ours
    one after the other are received as these are.
    """
    logging.getLogger(consuming.__name__).addFilter(_Unquoted())
    for name in MAPS:
        app.tasks[name].Request, app.tasks[name].Strategy = InferTask.Request, InferTask.Strategy


class _Unquoted(logging.Filter):
    """Takes from Celery's lines on what it refuses the message itself, which may hold content and signed URLs."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Every line passes, some of them shortened."""
        if isinstance(record.msg, str) and (said := REFUSALS.get(record.msg)):
            record.args = record.args[:1] if "%" in said and isinstance(record.args, tuple) else ()
            record.msg, record.exc_info = said, None
        return True


def fail(app: Celery, message: Any, body: Any, error: Exception) -> None:
    """Store, for whoever sent a task, that it was refused: a message of Celery's with an id is waited for."""
    fields = body if isinstance(body, Mapping) else {}
    task = message.headers.get("id") or fields.get("id")
    if not isinstance(task, str) or not task.isprintable():
        return
    why = JSON_ONLY if isinstance(error, ContentDisallowed | DecodeError) else f"not a task: {redacted(str(error))}"
    name = message.headers.get("task") or fields.get("task")
    # As Celery does for a task of an unknown name.
    request = Bunch(name=name, chord=None, root_id=None, correlation_id=task, reply_to=None, errbacks=None)
    app.backend.mark_as_failure(task, RequestFailed(InvalidRequest.type, why), request=request)


class Request(request.Request):
    """Celery's own, described by what the task holds."""

    def __init__(self, message: Any, **options: Any) -> None:
        args, kwargs, embed = options["body"] if options["decoded"] else message.payload
        if not (isinstance(args, list | tuple) and isinstance(kwargs, dict) and isinstance(embed, dict | None)):
            # Celery sees it too late, in a thread of the pool, and would hold the message as long as the worker lives.
            raise InvalidTaskError("its body is not [args, kwargs, embed]")
        described = {"argsrepr": _described(args, kwargs), "kwargsrepr": ""}
        super().__init__(message, **{**options, "headers": {**options["headers"], **described}})
        _, _ = self.time_limits  # as Celery does in a thread of the pool
        if not isinstance(self.name, str):
            # Celery counts by it, in a thread of the pool: see above.
            raise InvalidTaskError("the name that it is shown by (shadow) is no text")

    def info(self, safe: bool = False) -> dict[str, Any]:
        """What remote control tells of a running task: never its arguments."""
        info: dict[str, Any] = super().info(safe=True)
        return info

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Of `revoke(terminate=True)`: a thread can't be ended from outside. Celery's own raises that."""
        log.warning("task %s can't be terminated, a thread runs it: it ends by itself", self.id)


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Celery's own, for messages that this release understands. Runs on Celery's loop. What it returns raises
    InvalidTaskError, and RedisError.
    """
    usual = default(task, app, consumer, **options)

    def handle(message: Any, body: Any, *args: Any) -> Any:
        version = wire_version(message.headers)
        if version <= WIRE_VERSION:
            try:
                return None if _postponed(message, body) else usual(message, body, *args)
            except CHOKED as error:
                # Here somebody can still be told: see `fail`.
                raise InvalidTaskError(f"it can't be read: {type(error).__name__}") from error
        if version not in _told:
            _told.add(version)
            log.warning(
                "handing back tasks of wire version %d, this worker knows %d: their sender is of a newer release",
                version,
                WIRE_VERSION,
            )
        # Held meanwhile: it takes room, so an old worker takes two chunks of them at most.
        consumer.timer.call_after(HOLD_BACK_S, _hand_back, (message,))
        return None

    return handle


def _postponed(message: Any, body: Any) -> bool:
    """True when the task is not due, and set aside until it is, by Redis' clock: a machine whose own is ahead must not
    begin early. The take does so with what it can tell by itself; here is the rest: Celery's first protocol, whose
    `eta` is in the body, and rare spellings. Raises RedisError.
    """
    if not isinstance(message.channel.qos, QoS):
        return False
    for fields in (message.headers, message.payload if body is None else body):
        due = _due_of(fields.get("eta")) if isinstance(fields, dict) else None
        if due is None:
            continue
        if message.channel.qos.postpone(message.delivery_tag, due):
            return True
        fields["eta"] = None  # due by Redis' clock: Celery would go by this machine's, and hold it
    return False


def _due_of(eta: Any) -> float | None:
    try:
        return maybe_make_aware(maybe_iso8601(eta)).timestamp() if eta else None
    except (ValueError, TypeError, AttributeError, OverflowError):
        return None  # Celery says what is wrong with it


def _hand_back(message: Any) -> None:
    if not message.channel.closed:  # its end handed back what it held
        message.requeue()


def _described(args: Any, kwargs: Any) -> str:
    kwargs = kwargs or {}
    given = args[0] if args else kwargs.get("it", next(iter(kwargs.values()), None))
    return describe(list(_requests(given)))


def _requests(given: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(given, list | tuple):
        for each in given:
            yield from _requests(each)
    elif isinstance(given, Mapping):
        yield given
