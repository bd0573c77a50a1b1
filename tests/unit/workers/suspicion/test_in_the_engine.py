import base64
from collections.abc import Callable

import pytest
import torch

from lowtide.tasks.errors import ContentError, EngineStopped
from lowtide.tasks.wire.outcome import Status
from lowtide.tasks.wire.request import InferenceRequest
from lowtide.workers.engine.engine import PipelineEngine
from lowtide.workers.model import Model
from lowtide.workers.suspicion.rule import RECENT, Charge
from lowtide.workers.suspicion.standing import Phase, Standing, StandingState
from lowtide.workers.suspicion.tally import OutcomeTally

WAIT_S = 10


class Picky(Model):
    """Answers what begins with a zero byte."""

    def load(self, device: torch.device) -> None:
        self.version = "v1"

    def decode(self, content: bytes, params) -> torch.Tensor:
        if content[0]:
            raise ContentError("no", type="damaged")
        return torch.zeros(1)

    def predict(self, batch: torch.Tensor) -> torch.Tensor:
        return batch

    def encode(self, output: torch.Tensor, params) -> list[float]:
        return [output.item()]


def request(first: int) -> InferenceRequest:
    return InferenceRequest(model="picky", data=base64.b64encode(bytes([first])).decode())


@pytest.fixture
def engine(engine_of: Callable[..., PipelineEngine]) -> PipelineEngine:
    return engine_of({"picky": Picky("picky")}, standing=Standing(OutcomeTally()))


def suspect(engine: PipelineEngine, *, pause_s: float) -> None:
    charge = Charge(model="picky", kind="damaged")
    engine._standing._state = StandingState(phase=Phase.SUSPECT, since_s=0.0, charge=charge, pause_s=pause_s)


def test_failures_are_told_and_counted(engine: PipelineEngine) -> None:
    outcomes = [future.result(WAIT_S) for future in engine.submit([request(1)] * RECENT)]
    assert {outcome.status for outcome in outcomes} == {Status.FAILED}
    assert engine._standing.outcomes == {"picky": {"damaged": RECENT}}
    assert engine._standing.wants_turn()


def test_a_suspect_answers_what_it_can_and_hands_the_rest_back(engine: PipelineEngine) -> None:
    suspect(engine, pause_s=0.0)
    good, bad = engine.submit([request(0), request(1)])
    assert good.result(WAIT_S).status is Status.OK
    with pytest.raises(EngineStopped, match="another worker may answer") as caught:
        bad.result(WAIT_S)
    assert not caught.value.implicated  # of no loss
    assert engine.progress().in_process == 0


def test_a_suspect_in_its_pause_begins_nothing(engine: PipelineEngine) -> None:
    suspect(engine, pause_s=1e9)
    [future] = engine.submit([request(0)])
    with pytest.raises(EngineStopped):
        future.result(WAIT_S)
    assert engine._standing.outcomes == {}


def test_what_was_handed_back_is_not_counted_when_it_ends_here_all_the_same(engine: PipelineEngine) -> None:
    futures = engine.submit([request(0)] * 50)
    engine.hand_back()
    ended = sum(future.exception(WAIT_S) is None for future in futures)
    [last] = engine.submit([request(0)])
    last.result(WAIT_S)
    assert engine._standing.outcomes["picky"]["ok"] == ended + 1
