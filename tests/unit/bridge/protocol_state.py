"""The settle protocol: everything at one moment, for tests/unit/bridge/protocol_model.py."""

from enum import Enum
from typing import NamedTuple


class Circumstance(Enum):
    """In which a second copy of a result is allowed."""

    CRASH = "a bridge crashed between publish and record"
    UNANSWERED = "a publish was not answered"
    LOST_DATA = "a lease or a claim was lost, and data of Redis"
    OVERSLEPT = "a bridge stood still between the renewal of its claim and the record, until the claim lapsed"


class Bridge(NamedTuple):
    """A bridge, and its chunk.

    `at`: index of its next step. `leased`: Pub/Sub keeps the message for it; `lapsed`: at some time since the pull it
    did not. `queued`, `held`, `result`: the chunk is in its queue, held by a worker, among Celery's results. `forgot`:
    Redis lost its data, and the bridge has yet to notice. `stale`: a record may have come and gone since it looked.
    `unread`: an answer with the message waits to be taken, and its lease is over. `blob`: the content beside its chunk
    is there; `content_lost`: in the place of a result a worker says that it is not.
    """

    at: int = 0
    leased: bool = False
    lapsed: bool = False
    queued: bool = False
    held: bool = False
    result: bool = False
    forgot: bool = False
    stale: bool = False
    unread: bool = False
    blob: bool = False
    content_lost: bool = False


REST = Bridge()
NO_CHUNK = {
    "queued": False,
    "held": False,
    "result": False,
    "forgot": False,
    "blob": False,
    "content_lost": False,
}


class State(NamedTuple):
    """Everything at one moment.

    `copies`: how often its outgoing message was published; of one that ends in silence, whether it was recorded.
    `record`: "" (none), "0" or "1" (claimed by that bridge), "dead" (claimed by one that crashed), "done" (for seven
    days), "short" (for ten minutes). `chunk`: the bridge whose chunk the worker runs; `worker`: index of its next step;
    `read`: it has the content.
    `astray`: a lease or claim was lost. `excused`: a second copy is allowed; then copies are counted no longer.
    """

    acked: bool = False
    copies: int = 0
    record: str = ""
    bridges: tuple[Bridge, Bridge] = (REST, REST)
    chunk: int | None = None
    worker: int = 0
    read: bool = True
    lost_data: bool = False
    astray: bool = False
    excused: bool = False
    faults_left: int = 0

    def of(self, b: int, me: Bridge) -> "State":
        """With bridge `b` as it is now."""
        return self._replace(bridges=(me, self.bridges[1]) if b == 0 else (self.bridges[0], me))

    def renamed(self) -> "State":
        """With each bridge called as the other was."""
        return self._replace(
            bridges=self.bridges[::-1],
            record={"0": "1", "1": "0"}.get(self.record, self.record),
            chunk=None if self.chunk is None else 1 - self.chunk,
        )

    def without_chunk(self, b: int) -> "State":
        """Nobody waits for the chunk of `b` any more."""
        new = self.of(b, self.bridges[b]._replace(**NO_CHUNK))
        return new.at_rest() if self.chunk == b else new

    def at_rest(self) -> "State":
        """The worker runs nothing."""
        return self._replace(chunk=None, worker=0, read=True)


Move = tuple[str, State]
