import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lowtide.bridge.pubsub.client import Pubsub, PullRequest, PullResponse, message_of
from lowtide.bridge.pubsub.create import create_missing
from lowtide.bridge.replay import Choice, Replay
from lowtide.cli.main import main
from lowtide.config import Settings, load_settings

DEAD, REQUESTS = "lowtide-dead-letters", "lowtide-requests"
PATIENCE_S = 20.0


class World:
    """Dead letters on one side, requests on the other, and the command between them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pubsub = Pubsub()

    def bury(self, data: bytes, reason: str, **attributes: str) -> str:
        why = {"lowtide_reason": reason, "lowtide_error": "because", "lowtide_attempts": "2", "lowtide_request_id": "r"}
        (message_id,) = self.pubsub.publish(self.settings.topic_path(DEAD), [message_of(data, {**attributes, **why})])
        return message_id

    def replay(self, *arguments: str, code: int = 0) -> Result:
        env = {"LOWTIDE_PROJECT": self.settings.project}
        result = CliRunner().invoke(main, ["replay", "--timeout=1s", *arguments], env=env)
        assert result.exit_code == code, result.output
        return result

    def take(self, name: str, count: int) -> list[Any]:
        """At least `count` messages, acknowledged, and what else is there at once."""
        subscription = self.settings.subscription_path(name)
        pull = self.pubsub.method("Subscriber/Pull", PullRequest, PullResponse)
        found: list[Any] = []
        deadline_s = time.monotonic() + PATIENCE_S
        while (len(found) < count and time.monotonic() < deadline_s) or not count:
            request = PullRequest(subscription=subscription, max_messages=1000, return_immediately=True)
            received = pull(request, timeout=10).received_messages
            self.pubsub.acknowledge(subscription, [one.ack_id for one in received])
            found += [one.message for one in received]
            if not count:
                break
            time.sleep(0 if received else 0.05)
        assert len(found) >= count, f"{len(found)} of {count} messages on {name}"
        return found


@pytest.fixture
def world(pubsub_host: str, project: str) -> Iterator[World]:
    settings = load_settings(project=project)
    create_missing(settings)
    made = World(settings)
    yield made
    made.pubsub.close()


def said(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_chosen_letters_become_requests_and_the_others_stay(world: World) -> None:
    world.bury(b'{"model": "a"}', "no_content", **{"x-tenant": "t", "request_id": "mine"})
    world.bury(b"jpeg", "worker_lost", model="b")
    world.bury(b"other", "unknown_model")
    world.bury(b"", "worker_lost", lowtide_truncated="true")

    result = world.replay("--reason", "no_content", "--reason", "worker_lost", "--newer-than", "1h", "--json")

    assert sorted((one["became"], one["reason"]) for one in said(result)) == [
        ("replayed", "no_content"),
        ("replayed", "worker_lost"),
        ("truncated", "worker_lost"),
    ]
    assert "2 put back\n1 left: their data" in result.stderr
    assert "1 not chosen: 1 unknown_model" in result.stderr
    requests = {request.data: request for request in world.take(REQUESTS, 2)}
    assert dict(requests[b'{"model": "a"}'].attributes) == {"x-tenant": "t", "request_id": "mine"}
    assert dict(requests[b"jpeg"].attributes) == {"model": "b"}
    assert {request.message_id for request in requests.values()} == {one["message_id"] for one in said(result)} - {None}
    assert sorted(letter.data for letter in world.take(DEAD, 2)) == [b"", b"other"]


def test_a_dry_run_tells_and_touches_nothing(world: World) -> None:
    world.bury(b"x", "worker_lost")

    table = world.replay("--dry-run", "--max", "1")
    lines = world.replay("--dry-run", "--max", "1", "--json")

    header, row = table.stdout.splitlines()
    assert header.split() == ["published", "reason", "request", "error"]
    assert row.split()[1:] == ["worker_lost", "r", "because"]
    assert "1 would be put back" in table.stderr
    (one,) = said(lines)
    assert (one["became"], one["attempts"], one["bytes"], one["message_id"]) == ("listed", 2, 1, None)
    assert not world.take(REQUESTS, 0)
    assert [letter.message_id for letter in world.take(DEAD, 1)] == [one["letter_id"]]


def test_none_that_is_too_young_and_no_more_than_asked_for(world: World) -> None:
    for number in range(5):
        world.bury(str(number).encode(), "worker_lost")

    subscription, topic = world.settings.subscription_path(DEAD), world.settings.topic_path(REQUESTS)
    choice = Choice(before_s=time.time() - 3600)
    with Replay(world.pubsub, subscription=subscription, topic=topic, choice=choice, idle_s=1.0) as old:
        assert not list(old.run())
        assert dict(old.left) == {"worker_lost": 5}
    world.replay("--max", "2")

    assert len(world.take(REQUESTS, 2)) == 2
    assert len(world.take(DEAD, 3)) == 3


def test_another_topic_that_does_not_exist_is_an_error_and_leaves_the_letters(world: World) -> None:
    world.bury(b"x", "worker_lost")

    assert "NOT_FOUND" in world.replay("--topic", "nowhere", code=1).stderr
    assert len(world.take(DEAD, 1)) == 1
