from collections.abc import Sequence
from concurrent.futures import Future

import pytest

from lowtide.tasks import InferenceRequest, InvalidRequest, calling
from lowtide.tasks.errors import UnknownModel
from lowtide.tasks.wire import Outcome

Outcomes = tuple[Outcome, ...]


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[Future[Outcomes]]:
    """What was sent, unanswered; a fleet that serves `m` and `n`."""
    futures: list[Future[Outcomes]] = []

    def submit(requests: Sequence[InferenceRequest]) -> Future[Outcomes]:
        if requests[0].model not in ("m", "n"):
            raise UnknownModel("is not served", "model")
        futures.append(Future())
        return futures[-1]

    monkeypatch.setattr(calling, "_submit", submit)
    return futures


@pytest.mark.parametrize(
    ("bad", "error"), [({"model": "x", "uri": "gs://b/1"}, UnknownModel), ({"model": "n"}, InvalidRequest)]
)
def test_an_error_of_a_request_ends_the_iterator_and_nothing_is_left_out_in_silence(
    submitted: list[Future[Outcomes]], bad: dict[str, str], error: type[Exception]
) -> None:
    good = [{"model": model, "uri": "gs://b/1"} for model in "mn"]
    answers = calling.infer_many([*good, bad, *good], chunks_in_flight=9)

    with pytest.raises(error):
        next(answers)

    assert all(future.cancelled() for future in submitted)
    assert list(answers) == []
