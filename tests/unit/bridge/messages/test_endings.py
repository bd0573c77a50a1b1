import pytest

from lowtide.bridge.messages.endings import Endings
from lowtide.bridge.messages.kinds import Ending, SilentEnding, Translated
from lowtide.config import load_settings
from lowtide.tasks.errors import EMPTY_OBJECT
from lowtide.tasks.wire.outcome import Outcome
from lowtide.tasks.wire.request import InferenceRequest
from tests.unit.bridge.received import received

ENDINGS = Endings(load_settings(project="p"))
RECEIVED = received()
EMPTY = Outcome.failed(EMPTY_OBJECT, "gs://b/o: generation 5 is empty")


def item(*, is_upload: bool) -> Translated:
    request = InferenceRequest(model="m", uri="gs://b/o", generation="5")
    return Translated(received=RECEIVED, request=request, reply_topic="t", is_upload=is_upload)


def test_an_upload_that_turns_out_to_be_empty_ends_in_silence() -> None:
    found = ENDINGS.of_outcome(item(is_upload=True), EMPTY)
    assert found == SilentEnding(received=RECEIVED, why="empty")


@pytest.mark.parametrize(
    ("is_upload", "outcome"),
    [(False, EMPTY), (True, Outcome.failed("not_found", "generation 5 is gone")), (True, Outcome(status="ok"))],
)
def test_whoever_asks_for_an_empty_object_and_other_ends_of_uploads_get_a_result(
    is_upload: bool, outcome: Outcome
) -> None:
    found = ENDINGS.of_outcome(item(is_upload=is_upload), outcome)
    assert isinstance(found, Ending)
    assert found.outgoing.attributes["status"] == outcome.status
