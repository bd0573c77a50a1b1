from collections.abc import Sequence

from redis import RedisError

from lowtide.bridge.held.held import LOOK_VALID_S, Held
from lowtide.bridge.held.record_watch import AT_ONCE, LOOK_S, RecordWatch
from tests.unit.bridge.received import received


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
        self.held = Held(lambda: self.now_s)
        self.held.add(received(str(n)) for n in range(count))
        self.watch = RecordWatch(records=self.records, held=self.held, clock=lambda: self.now_s)

    def wait(self, seconds: float) -> None:
        """Turn every `LOOK_S`, as the loop does."""
        for _ in range(int(seconds / LOOK_S)):
            self.now_s += LOOK_S
            self.watch.turn()


def test_what_is_looked_at_again_and_again_may_be_published_however_long_it_takes() -> None:
    world = World()
    world.wait(3 * LOOK_VALID_S)

    assert not world.held.unseen(["s:0"])


def test_what_could_not_be_looked_at_for_too_long_may_not_be_published() -> None:
    world = World()
    world.records.away = True
    world.wait(LOOK_VALID_S + LOOK_S)
    world.records.away = False
    world.wait(LOOK_S)

    assert world.held.unseen(["s:0"]) == {"s:0"}


def test_records_are_looked_at_in_parts() -> None:
    world = World(AT_ONCE + 1)
    world.watch.turn()

    assert [len(keys) for keys in world.records.kept] == [AT_ONCE, 1]
