"""An engine on the CPU around tiny models."""

from collections.abc import Callable, Iterator, Mapping

import pytest
import torch

from lowtide.config import Settings
from lowtide.tasks.errors import ContentError
from lowtide.tasks.wire.outcome import Outcome
from lowtide.workers.content.fetch import Fetcher
from lowtide.workers.engine.engine import PipelineEngine
from lowtide.workers.model import Model

# Imports torchvision without torch's compiler, before tests import it with the compiler, which takes two seconds.
from lowtide.workers.models import torchvision_classifier as torchvision_classifier
from lowtide.workers.suspicion.standing import Standing
from lowtide.workers.suspicion.tally import OutcomeTally

# Threads of one operation spin while they wait for one another: on busy cores, two take several times the time of one.
torch.set_num_threads(1)

CPU = torch.device("cpu")


class Memory:
    """A source of content for tests: URIs `mem://…` from a dict, or what a function does."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes | Callable[[], bytes]] = {}
        self.reads: list[str] = []

    def read(self, uri: str, *, timeout_s: float, generation: str | None = None) -> bytes:
        self.reads.append(uri)
        if uri not in self.contents:
            raise ContentError(f"{uri}: there is no such object", type="not_found")
        content = self.contents[uri]
        return content if isinstance(content, bytes) else content()


class Trusting(Standing):
    """Of a worker without doubt: every failure is answered."""

    def note(self, model: str, outcome: Outcome) -> bool:
        super().note(model, outcome)
        return True


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def engine_of(memory: Memory) -> Iterator[Callable[..., PipelineEngine]]:
    engines: list[PipelineEngine] = []

    def make(
        models: Mapping[str, Model],
        *,
        on_broken: Callable[[Exception], None] = print,
        standing: Standing | None = None,
        **settings,
    ) -> PipelineEngine:
        fetcher = Fetcher({"mem": memory}, timeout_s=5, sleep=lambda _: None)
        engine = PipelineEngine(
            Settings(**{"decode_threads": 2, **settings}),
            devices={CPU: models},
            fetcher=fetcher,
            standing=standing or Trusting(OutcomeTally()),
            on_broken=on_broken,
        )
        engines.append(engine)
        engine.start()
        return engine

    yield make
    for engine in engines:
        engine.close(0.0)
