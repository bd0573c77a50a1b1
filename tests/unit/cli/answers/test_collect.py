import json
from types import SimpleNamespace

import pytest

from lowtide.bridge.messages.kinds import Received
from lowtide.bridge.pubsub.client import PubsubUnavailable
from lowtide.cli.answers import collect
from lowtide.cli.answers.collect import RUN, SOURCE, Collection
from lowtide.cli.sources.sources import Source
from lowtide.config import load_settings


class Deaf:
    """Pub/Sub that acknowledges, and whose confirmation is lost: nothing comes a second time."""

    def acknowledge(self, subscription: str, ack_ids: list[str]) -> None:
        raise PubsubUnavailable("UNAVAILABLE", "connection reset")


class Once:
    """Pulls that bring one result."""

    def __init__(self, message: Received) -> None:
        self._left = [message]

    def ask(self, count: int) -> None: ...

    def take(self, timeout_s: float) -> list[Received]:
        left, self._left = self._left, []
        return left


def test_a_result_is_kept_though_the_confirmation_of_its_acknowledgement_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collect, "Pubsub", Deaf)
    monkeypatch.setattr(collect, "time", SimpleNamespace(sleep=lambda _: None))
    collection = Collection(load_settings(project="p"), model="m", params={}, local_files=False)
    message = Received(
        subscription="s",
        ack_id="1",
        message_id="1",
        data=json.dumps({"request_id": "a.png", "model": "m", "status": "ok", "outputs": [7], "error": None}).encode(),
        attributes={RUN: collection._run, SOURCE: "0"},
        published_s=0.0,
    )

    results = collection._until_answered({"0": Source(request_id="a.png", missing="")}, Once(message))

    assert [result["outputs"] for result in results] == [[7]]
