"""What an application imports: the tasks, the wire contract, the errors, and the port to an engine.

Comes in: a request (a dict or an `InferenceRequest`). Goes out: its outputs, or `RequestFailed`. Next: a worker's
engine, behind `port`. Imports neither torch nor google.cloud, so that a web app stays light.
"""

from lowtide.tasks.client.calling import Answer, NotAnswered, infer_async, infer_many
from lowtide.tasks.errors import InvalidRequest, LowtideError, RedisUnusable, RequestFailed, UnknownModel
from lowtide.tasks.infer import infer, infer_chunk
from lowtide.tasks.wire.outcome import Outcome
from lowtide.tasks.wire.request import InferenceRequest
from lowtide.tasks.wire.result import InferenceResult

__all__ = [
    "Answer",
    "InferenceRequest",
    "InferenceResult",
    "InvalidRequest",
    "LowtideError",
    "NotAnswered",
    "Outcome",
    "RedisUnusable",
    "RequestFailed",
    "UnknownModel",
    "infer",
    "infer_async",
    "infer_chunk",
    "infer_many",
]
