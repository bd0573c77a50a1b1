"""Results: what is published on the reply topic. Pure."""

import json

from pydantic_core import PydanticSerializationError

from lowtide.bridge.messages.kinds import OutgoingMessage, Translated
from lowtide.tasks.wire.outcome import Outcome, Status, Timings
from lowtide.tasks.wire.result import InferenceResult, StoredObject

CALLERS_OWN = "x-"
CALLERS_OWN_MAX = 96
"""Pub/Sub takes 100 attributes; four are ours."""


def result_message(translated: Translated, outcome: Outcome, *, now_s: float, max_bytes: int) -> OutgoingMessage:
    """The message that tells how a request ended. One over `max_bytes` says `output_too_large` instead."""
    result = _result(translated, outcome, now_s=now_s)
    data = _encode(result)
    if len(data) > max_bytes:
        message = f"the result has {len(data)} bytes of JSON, {max_bytes} are allowed (LOWTIDE_RESULT_MAX_BYTES)"
        too_large = Outcome.failed("output_too_large", message, timings_ms=outcome.timings_ms)
        result = _result(translated, too_large, now_s=now_s)
        data = _encode(result)
    return OutgoingMessage(topic=translated.reply_topic, data=data, attributes=_attributes(translated, result))


def _result(translated: Translated, outcome: Outcome, *, now_s: float) -> InferenceResult:
    status = Status.FAILED if outcome.status is Status.RETRY else outcome.status
    # Not validated: every part was, when it came.
    return InferenceResult.model_construct(
        request_id=translated.request_id,
        message_id=translated.received.message_id,
        model=translated.request.model,
        model_version=outcome.model_version,
        status=status,
        outputs=outcome.outputs,
        error=outcome.error,
        attempts=1 + translated.tries,
        timings_ms=_timings(outcome.timings_ms, total_ms=(now_s - translated.received.published_s) * 1000),
        object=StoredObject.of(translated.request),
    )


def _timings(worker: Timings, *, total_ms: float) -> Timings:
    """From the worker's durations and the time since the publish. Two machines' clocks differ: never below zero."""
    total_ms = max(0.0, total_ms)
    return Timings.model_construct(
        queued=round(max(0.0, total_ms - worker.total), 3),
        fetch=worker.fetch,
        decode=worker.decode,
        gpu=worker.gpu,
        total=round(total_ms, 3),
    )


def _encode(result: InferenceResult) -> bytes:
    try:
        return result.model_dump_json().encode()
    except (PydanticSerializationError, UnicodeError):
        # Half a surrogate pair: JSON can say it escaped, UTF-8 can't. What is no number is null, as pydantic says it.
        escaped = json.dumps(result.model_dump(mode="python"))
        return json.dumps(json.loads(escaped, parse_constant=lambda _: None)).encode()


def _attributes(translated: Translated, result: InferenceResult) -> dict[str, str]:
    theirs = sorted(name for name in translated.received.attributes if name.startswith(CALLERS_OWN))
    return {
        **{name: translated.received.attributes[name] for name in theirs[:CALLERS_OWN_MAX]},
        "request_id": result.request_id,
        "message_id": result.message_id,
        "model": result.model,
        "status": str(result.status),
    }
