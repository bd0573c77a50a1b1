from typing import Any

import pytest

from lowtide.config import Settings
from lowtide.tasks import protocol
from lowtide.tasks.errors import OtherProtocol, RedisUnusable
from lowtide.tasks.keys import PROTOCOL, Keys
from lowtide.tasks.served import Served
from lowtide.tasks.trouble import named

KEYS = Keys("fleet:")


class Store:
    """As much of Redis as is asked."""

    def __init__(self, spoken: str | None = None) -> None:
        self.spoken = spoken.encode() if spoken else None

    def get(self, key: str) -> bytes | None:
        assert key == "fleet:lt:protocol"
        return self.spoken

    def set(self, key: str, value: str, *, nx: bool) -> None:
        assert nx
        self.spoken = self.spoken or value.encode()


def test_the_first_to_come_says_what_is_spoken_and_who_speaks_that_goes_on() -> None:
    store: Any = Store()
    protocol.check(store, KEYS)
    protocol.agree(store, KEYS)
    protocol.agree(store, KEYS)
    assert store.spoken == PROTOCOL.encode()


def test_who_speaks_another_says_so_and_what_to_do() -> None:
    store: Any = Store("3")
    said = r"a fleet of protocol 3, this release speaks 2 → run a release .* LOWTIDE_PREFIX"
    with pytest.raises(RedisUnusable, match=said), named():
        Served(store, KEYS).check("m")


def test_a_process_waits_until_its_own_is_spoken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store: Any = Store("1")
    monkeypatch.setattr(protocol, "connect", lambda settings: store)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            store.spoken = None  # whoever spoke it is gone, and its data

    protocol.wait(Settings(prefix="fleet:"), sleep=sleep)
    assert (len(waits), store.spoken) == (3, PROTOCOL.encode())
    assert caplog.text.count("protocol 1") == 1


def test_of_two_who_come_first_at_once_one_gives_way() -> None:
    store: Any = Store()
    store.set = lambda *_, **__: setattr(store, "spoken", b"3")
    with pytest.raises(OtherProtocol):
        protocol.agree(store, KEYS)
