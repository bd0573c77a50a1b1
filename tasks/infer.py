"""The tasks: `lowtide.infer` (one request → its outputs) and `lowtide.infer_chunk` (a list → a list of outcomes)."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from celery import Signature, Task, chunks, states
from celery.exceptions import Ignore, Reject
from celery.result import AsyncResult
from pydantic import ValidationError
from redis import RedisError

from lowtide.tasks.app import app
from lowtide.tasks.callbacks import CALLBACKS_HEADER, PLACED, default_queue, queues_of
from lowtide.tasks.chunks.blob import PLACE, Blobs
from lowtide.tasks.client import served
from lowtide.tasks.errors import ContentLost, HandBack, InvalidRequest, RequestFailed
from lowtide.tasks.queues import headers_of, route, wire_version
from lowtide.tasks.redis.trouble import named
from lowtide.tasks.running import ownership
from lowtide.tasks.running.losses import Losses
from lowtide.tasks.running.run import Run
from lowtide.tasks.wire.outcome import Outcome, Status
from lowtide.tasks.wire.request import InferenceRequest
from lowtide.tasks.wire.version import SINCE

INFER = "lowtide.infer"
INFER_CHUNK = "lowtide.infer_chunk"


class Outcomes:
    """What `lowtide.infer_chunk` returns: on the wire a list of outcomes, to a person the counts."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self._outcomes = outcomes

    def __json__(self) -> list[dict[str, Any]]:
        return [outcome.to_wire() for outcome in self._outcomes]

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self._outcomes)

    def __repr__(self) -> str:
        counts = Counter(outcome.status for outcome in self._outcomes)
        return ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])


def describe(requests: Sequence[Mapping[str, Any]]) -> str:
    """A task's arguments as Flower shows them: "digits × 64", never the content."""
    models = sorted({str(request.get("model", "?")) for request in requests})
    return f"{', '.join(models)} × {len(requests)}"


class ChunksWithQueue(chunks):
    """Celery's own, whose groups lose what was set here."""

    def group(self) -> Signature:
        """Each part with the queue of this."""
        made = super().group()
        for part in made.tasks:
            part.set(**self.options)
        return made


class InferTask(Task):
    """Tells in headers how many requests there are, since when, and where callbacks go; and describes the requests to
    Flower without content.
    """

    # By name: Celery looks them up in a worker alone.
    Request = "lowtide.workers.consumer.receive:Request"
    Strategy = "lowtide.workers.consumer.receive:strategy"
    serializer = "json"
    pause_s = 1.0
    """Before a task goes back because Redis does not answer: it would be here again at once."""

    def signature(self, args: Any = None, *starargs: Any, **starkwargs: Any) -> Signature:
        """Celery's own, fit to be sent by an app that knows nothing of us: with its queue, as far as its request is
        known, and that of its callbacks.
        """
        made = super().signature(args, *starargs, **starkwargs)
        made["args"] = tuple(map(_wire, made["args"]))
        made["kwargs"] = {name: _wire(argument) for name, argument in made["kwargs"].items()}
        return self._fit(made, made["args"], made["kwargs"])

    subtask = signature

    def map(self, it: Iterable[Any]) -> Signature:
        """Celery's own, for whoever sends it."""
        return self._over(super().map(_wire(list(it))))

    def starmap(self, it: Iterable[Any]) -> Signature:
        """Celery's own, for whoever sends it."""
        return self._over(super().starmap(_wire(list(it))))

    def chunks(self, it: Iterable[Any], n: int) -> Signature:
        """Celery's own, for whoever sends it."""
        return self._over(ChunksWithQueue(self.s(), _wire(list(it)), n, app=self.app))

    def _over(self, made: Signature) -> Signature:
        return self._fit(made, (made["kwargs"]["it"],), {})

    def _fit(self, made: Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Signature:
        options = made["options"]
        self._place(options, args, kwargs)
        if queues := default_queue(ours=app):
            options["headers"] = {CALLBACKS_HEADER: queues, **(options.get("headers") or {})}
        return made

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> AsyncResult:
        """Celery's own, for requests given as dicts or `InferenceRequest`. Raises InvalidRequest before anything is
        sent, UnknownModel among them, unless the caller names another queue than the model's; RedisUnusable.
        """
        if options.get("serializer", "json") != "json":
            raise InvalidRequest("tasks are JSON, and read as nothing else: leave serializer out")
        requests = self._requests(args or (), kwargs or {})
        wire = (requests if self.name == INFER_CHUNK else requests[0],)
        headers = {**headers_of(requests, sent_at=time.time()), **(options.get("headers") or {})}
        if queues := queues_of(options, ours=app):
            headers[CALLBACKS_HEADER] = queues
        described = {"argsrepr": describe(requests), "kwargsrepr": "", **options, "headers": headers}
        self._place(described, wire, {})
        with named():
            if described.get("queue") == (route(self.name, wire, {}, {}) or {}).get("queue"):
                for model in {request["model"] for request in requests}:
                    served.check(app, model)
            return super().apply_async(wire, {}, **described)

    def _requests(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What the arguments hold, for the wire. Raises InvalidRequest."""
        if not isinstance(args, list | tuple):
            raise InvalidRequest("arguments are a list: apply_async([request])")
        takes = "request" if self.name == INFER else "requests"
        if len(args) + len(kwargs) > 1 or kwargs.keys() - {takes}:
            raise InvalidRequest(
                f"{self.name} takes one argument, {takes}; options go to apply_async; in a chain write "
                f"{self.__name__}.si(…)"
            )
        given: Any = args[0] if args else kwargs.get(takes)
        if self.name == INFER:
            given = [given]
        if not isinstance(given, list | tuple) or not given:
            raise InvalidRequest(f"{self.name} takes a list of at least one request")
        return [InferenceRequest.parse(request).to_wire() for request in given]

    def _place(self, options: dict[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Not by the routes of the app: an application's own has this task, too, and may be the one that sends it."""
        if not PLACED & options.keys():
            options.update(route(self.name, tuple(args), kwargs, options) or {})


@app.task(bind=True, base=InferTask, name=INFER, throws=(RequestFailed,))
def infer(self: Task, request: Mapping[str, Any]) -> list[Any]:
    """Predict one request; returns its outputs. Raises RequestFailed."""
    if (stored := _stored(self)) is not None:
        return stored
    outcome = _run(self, [request])[0]
    if outcome.status is Status.OK:
        return outcome.outputs
    if outcome.error is None:
        raise RequestFailed(outcome.status, "the request expired before it was predicted")
    raise RequestFailed(outcome.error.type, outcome.error.message)


@app.task(bind=True, base=InferTask, name=INFER_CHUNK, throws=(RequestFailed,))
def infer_chunk(self: Task, requests: list[Mapping[str, Any]]) -> Outcomes:
    """Predict requests of one model; returns one outcome each, in order. Raises only when the whole chunk failed."""
    if not isinstance(requests, list):
        raise RequestFailed(InvalidRequest.type, f"{INFER_CHUNK} takes a list of requests, {INFER} one")
    if done := _readable(_stored(self)):
        return done
    try:
        return Outcomes(_run(self, requests, blobs=partial(Blobs.of, self) if _keeps_content(self) else None))
    except ContentLost as error:
        # Perhaps of a copy of a task that is done: its sender deletes the content once it has the result.
        with _handing_back(self):
            Blobs.of(self).tell_lost(self.request.id)
        raise Ignore from error


def _keeps_content(task: Task) -> bool:
    """True when the sender can have put content beside the task, and would send that again. A stock Celery app can't:
    a field of that name is then one that no request has.
    """
    return wire_version(task.request) >= SINCE[PLACE]


def _readable(stored: list[Any] | None) -> Outcomes | None:
    """What a worker of another release stored may say nothing to this one: then the requests run once more."""
    with suppress(ValidationError):
        return Outcomes([Outcome.model_validate(outcome, extra="ignore") for outcome in stored]) if stored else None
    return None


def _wire(argument: Any) -> Any:
    """Requests that are ready for JSON: a signature may be sent by somebody who can't do that."""
    if isinstance(argument, list | tuple):
        return list(map(_wire, argument))
    return argument.to_wire() if isinstance(argument, InferenceRequest) else argument


def _redelivered(task: Task) -> bool:
    return bool((task.request.delivery_info or {}).get("redelivered"))


def _stored(task: Task) -> list[Any] | None:
    """The result that a redelivered task already has. Celery's own `worker_deduplicate_successful_tasks` will not do:
    it also trusts the worker's memory, and so never stores again what an emptied Redis lost.
    """
    if not _redelivered(task):
        return None
    meta = task.backend.get_task_meta(task.request.id, cache=False)
    return meta["result"] if meta["status"] == states.SUCCESS else None


def _run(
    task: Task, requests: Sequence[Mapping[str, Any]], *, blobs: Callable[[], Blobs] | None = None
) -> list[Outcome]:
    if ownership.given_up((task.request.properties or {}).get("delivery_tag")):
        raise Ignore
    with _handing_back(task):
        run = Run(task.request.id or "", requests, partial(Losses.of, task), blobs=blobs)
        return run.outcomes(redelivered=_redelivered(task))


@contextmanager
def _handing_back(task: Task) -> Iterator[None]:
    """What another worker may do, or this one later, goes back to its queue."""
    try:
        yield
    except HandBack as error:
        raise Reject(str(error), requeue=True) from error
    except RedisError as error:
        time.sleep(task.pause_s)
        raise Reject(f"Redis does not answer: {error}", requeue=True) from error
