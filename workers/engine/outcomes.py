"""Outcomes: how each end of a request in this process is told to whoever sent it. Pure but for the clock."""

import json
import time
from collections.abc import Iterable
from typing import Any

from lowtide.tasks.errors import ContentError, InvalidRequest
from lowtide.tasks.wire.outcome import Outcome, RequestError, Status, Timings
from lowtide.workers.engine.job import Fetched, Job, Predicted, Ready

_JSON = json.JSONEncoder(allow_nan=False)


def to_json(outputs: list[Any]) -> str:
    """The outputs as they will travel. Raises ValueError (NaN, infinity) or TypeError for what JSON can't say."""
    return _JSON.encode(outputs)


def ok(predicted: Predicted, outputs: list[Any]) -> Outcome:
    """The request has outputs."""
    version = predicted.ready.job.version
    return Outcome(status=Status.OK, model_version=version, outputs=outputs, timings_ms=_timings_of(predicted))


def failed(predicted: Predicted, error: RequestError) -> Outcome:
    """The device or what followed it failed the request."""
    version = predicted.ready.job.version
    return Outcome(status=Status.FAILED, model_version=version, error=error, timings_ms=_timings_of(predicted))


def timed_out(ready: Ready, *, batch_s: float) -> Outcome:
    """The request ran alone on the device, and did not come back."""
    message = f"ran alone on the device for {batch_s:.0f} s without an end (LOWTIDE_BATCH_DEADLINE_S)"
    error = RequestError(type="timeout", message=message)
    return _ended(ready.job, error, fetch_s=ready.fetch_s, decode_s=ready.decode_s, batch_s=batch_s, gpu_s=batch_s)


def never_out_of(stage: str, job: Job, *, spent_s: float) -> Outcome:
    """The model's `decode` or `encode` of this request did not come back."""
    message = f"{stage} of model {job.request.model} has not ended after {spent_s:.0f} s (LOWTIDE_BATCH_DEADLINE_S)"
    error = RequestError(type="timeout", message=message)
    return _ended(job, error, decode_s=spent_s if stage == "decode" else 0.0)


def undecodable(fetched: Fetched, message: str, *, decode_s: float) -> Outcome:
    """The model's `decode` raised what it should not."""
    error = RequestError(type="decode_error", message=message)
    return _ended(fetched.job, error, fetch_s=fetched.fetch_s, decode_s=decode_s)


def without_content(
    job: Job, error: ContentError | InvalidRequest, *, fetch_s: float = 0.0, decode_s: float = 0.0
) -> Outcome:
    """The content could not be had, or not be used; another try may help when the error says so."""
    status = Status.RETRY if error.retryable else Status.FAILED
    told = RequestError(type=error.type, message=str(error))
    return _ended(job, told, status=status, fetch_s=fetch_s, decode_s=decode_s)


def expired(job: Job, *, fetch_s: float = 0.0, decode_s: float = 0.0) -> Outcome:
    """The request is not worth predicting any more."""
    at = job.request.expires_at
    message = f"expired at {at.isoformat() if at else '?'}, before it was predicted"
    error = RequestError(type="expired", message=message)
    return _ended(job, error, status=Status.EXPIRED, fetch_s=fetch_s, decode_s=decode_s)


def unknown_model(name: str, known: Iterable[str]) -> Outcome:
    """Nothing here serves the model."""
    message = f"no model {name!r} here; models are {', '.join(known)} (LOWTIDE_MODELS)"
    return Outcome.failed("unknown_model", message)


def _ended(job: Job, error: RequestError, *, status: Status = Status.FAILED, **spent: float) -> Outcome:
    """Without outputs. `spent`: as `_timings` takes it."""
    return Outcome(status=status, model_version=job.version, error=error, timings_ms=_timings(job, **spent))


def _timings_of(predicted: Predicted) -> Timings:
    ready = predicted.ready
    return _timings(
        ready.job,
        fetch_s=ready.fetch_s,
        decode_s=ready.decode_s,
        batch_s=predicted.batch_s,
        gpu_s=predicted.batch_s / predicted.n,
    )


def _timings(
    job: Job, *, fetch_s: float = 0.0, decode_s: float = 0.0, batch_s: float = 0.0, gpu_s: float = 0.0
) -> Timings:
    total_s = time.monotonic() - job.arrived_s
    return Timings(
        queued=_ms(max(0.0, total_s - fetch_s - decode_s - batch_s)),
        fetch=_ms(fetch_s),
        decode=_ms(decode_s),
        gpu=_ms(gpu_s),
        total=_ms(total_s),
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
