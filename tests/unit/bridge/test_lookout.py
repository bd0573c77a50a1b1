from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from redis import RedisError

from lowtide.bridge.flight import InFlight
from lowtide.bridge.leases import LOOK_VALID_S, Leases
from lowtide.bridge.lookout import AT_ONCE, LOOK_S, Lookout
from lowtide.bridge.messages import Received, Translated
from lowtide.tasks.keys import BLOB_S
from lowtide.tasks.wire import InferenceRequest


def received(message_id: str) -> Received:
    return Received(subscription="s", ack_id="k", message_id=message_id, data=b"", attributes={}, published_s=0.0)


class Records:
    def __init__(self) -> None:
        self.away = False
        self.kept: list[Sequence[str]] = []
        self.forgotten: list[Sequence[str]] = []

    def keep(self, keys: Sequence[str]) -> None:
        if self.away:
            raise RedisError("away")
        self.kept.append(keys)

    def forget(self, task_ids: Sequence[str]) -> None:
        self.forgotten.append(task_ids)


class World:
    def __init__(self, count: int = 1) -> None:
        self.now_s = 0.0
        self.records = Records()
        self.leases = Leases(lambda: self.now_s)
        self.leases.add(received(str(n)) for n in range(count))
        self.in_flight = InFlight(lambda: self.now_s)
        self.renewed: list[list[str]] = []
        blobs: Any = SimpleNamespace(renew=lambda tasks: self.renewed.append(list(tasks)))
        self.lookout = Lookout(self.records, self.leases, self.in_flight, blobs, clock=lambda: self.now_s)

    def wait(self, seconds: float) -> None:
        """Turn every `LOOK_S`, as the loop does."""
        for _ in range(int(seconds / LOOK_S)):
            self.now_s += LOOK_S
            self.lookout.turn()


def test_what_is_looked_at_again_and_again_may_be_published_however_long_it_takes() -> None:
    world = World()
    world.wait(3 * LOOK_VALID_S)

    assert not world.leases.unseen(["s:0"])


def test_what_could_not_be_looked_at_for_too_long_may_not_be_published() -> None:
    world = World()
    world.records.away = True
    world.wait(LOOK_VALID_S + LOOK_S)
    world.records.away = False
    world.wait(LOOK_S)

    assert world.leases.unseen(["s:0"]) == {"s:0"}


def test_records_are_looked_at_in_parts() -> None:
    world = World(AT_ONCE + 1)
    world.lookout.turn()

    assert [len(keys) for keys in world.records.kept] == [AT_ONCE, 1]


def test_content_that_waits_for_workers_is_renewed_in_time_and_no_other() -> None:
    world = World()
    for task_id, content in (("a", {"data": "aGk="}), ("b", {"uri": "gs://b/o"}), ("c", {"data": ""})):
        request = InferenceRequest(model="m", **content)
        world.in_flight.launch(task_id, [Translated(received=received(task_id), request=request, reply_topic="t")])
    world.in_flight.land("c")
    world.wait(BLOB_S)

    assert world.renewed == [["a"]] * 5


def test_what_redis_did_not_delete_is_tried_again_though_nothing_is_settled() -> None:
    world = World()
    world.wait(3 * LOOK_S)

    assert world.records.forgotten == [[]] * 3
