from collections.abc import Sequence

from redis import RedisError

from lowtide.bridge.leases import LOOK_VALID_S, Leases
from lowtide.bridge.lookout import AT_ONCE, LOOK_S, Lookout
from lowtide.bridge.messages import Received


class Records:
    def __init__(self) -> None:
        self.away = False
        self.kept: list[Sequence[str]] = []

    def keep(self, keys: Sequence[str]) -> None:
        if self.away:
            raise RedisError("away")
        self.kept.append(keys)


class World:
    def __init__(self, count: int = 1) -> None:
        self.now_s = 0.0
        self.records = Records()
        self.leases = Leases(lambda: self.now_s)
        self.leases.add(
            Received(subscription="s", ack_id="k", message_id=str(n), data=b"", attributes={}, published_s=0.0)
            for n in range(count)
        )
        self.lookout = Lookout(self.records, self.leases, clock=lambda: self.now_s)

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
