"""The threads that decode: content becomes an item that may join a batch."""

import time
from collections.abc import Mapping

import torch

from lowtide.tasks.errors import ContentError, InvalidRequest, MemoryShort
from lowtide.workers.content.source import inline
from lowtide.workers.device.devices import spare_the_cores
from lowtide.workers.engine import outcomes
from lowtide.workers.engine.bounded_queue import BoundedQueue
from lowtide.workers.engine.crew import Crew
from lowtide.workers.engine.in_process import InProcess
from lowtide.workers.engine.job import Fetched, Ready
from lowtide.workers.engine.ready_pool import ReadyPool
from lowtide.workers.images.memory import DecodeMemory
from lowtide.workers.model import Model


class DecodeThreads:
    """Content from a queue, items into the pool. Its crew ends after both closed."""

    def __init__(
        self,
        count: int,
        *,
        models: Mapping[str, Model],
        fetched: BoundedQueue[Fetched],
        ready: ReadyPool,
        in_process: InProcess,
        content_max_bytes: int,
        memory_bytes: int,
    ) -> None:
        self._models = models
        self._fetched = fetched
        self._ready = ready
        self._in_process = in_process
        self._content_max_bytes = content_max_bytes
        self._memory = DecodeMemory(memory_bytes)
        self.crew = Crew("decode", count, self._run)

    def _run(self) -> None:
        spare_the_cores()
        while (fetched := self._fetched.get()) is not None:
            self._decode(fetched)

    def _decode(self, fetched: Fetched) -> None:
        job, fetch_s, started_s = fetched.job, fetched.fetch_s, time.monotonic()
        if started_s >= job.expires_s:
            self._in_process.resolve(job, outcomes.expired(job, fetch_s=fetch_s))
            return
        model = self._models[job.request.model]
        try:
            with self.crew.at_work(job), self._memory.share(resting=self.crew.resting):
                item = _checked(model.decode(self._content(fetched), job.request.params))
        except (ContentError, InvalidRequest) as error:
            decode_s = time.monotonic() - started_s
            outcome = outcomes.without_content(job, error, fetch_s=fetch_s, decode_s=decode_s)
        except MemoryError:
            decode_s = time.monotonic() - started_s
            short = MemoryShort(f"memory is too short for model {model.name} to decode this content")
            outcome = outcomes.without_content(job, short, fetch_s=fetch_s, decode_s=decode_s)
        except BaseException as error:  # noqa: BLE001 - a model is somebody else's code: it may raise anything
            message = f"model {model.name} can't decode this content: {type(error).__name__}: {error}"
            outcome = outcomes.undecodable(fetched, message, decode_s=time.monotonic() - started_s)
        else:
            self._ready.put(Ready(job=job, item=item, fetch_s=fetch_s, decode_s=time.monotonic() - started_s))
            return
        self._in_process.resolve(job, outcome)

    def _content(self, fetched: Fetched) -> bytes:
        if fetched.content is not None:
            return fetched.content
        return inline(fetched.job.request, self._content_max_bytes)


def _checked(item: object) -> torch.Tensor:
    if not isinstance(item, torch.Tensor):
        raise TypeError(f"decode returned {type(item).__name__}, not a torch.Tensor")
    return item
