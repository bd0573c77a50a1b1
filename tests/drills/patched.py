"""`python -m tests.drills.patched PATCHES COMMAND…`: a Lowtide command with protecting pieces switched off, or with
moments at which it or its Redis dies. The product knows nothing of this.
"""

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DIE_AT = "DRILL_DIE_AT"
"""Environment variable: a file. While it names a moment, somebody dies at that moment, and the file is gone."""


def no_reaper() -> None:
    """Nobody gives back what a vanished worker held."""
    from lowtide.tasks.transport.reaper import Reaper
    from lowtide.tasks.transport.station import Station

    Reaper.sweep = lambda self: 0
    Station.reclaim = lambda self: None


def early_ack() -> None:
    """A worker acknowledges a task when it takes it, and the bridge does not look for chunks that are nowhere."""
    from lowtide.bridge.lost import Backstop
    from lowtide.tasks import app

    config = app.celery_config
    app.celery_config = lambda settings: {**config(settings), "task_acks_late": False}
    Backstop.turn = lambda self: None


def die() -> None:
    """The bridge dies between publish and record, or between record and acknowledge, when DRILL_DIE_AT says so."""
    from lowtide.bridge.records import Records

    done = Records.done

    def dying(self: Records, messages: Sequence[str]) -> None:
        if _is_now("before-record"):
            _kill(os.getpid())
        done(self, messages)
        if _is_now("after-record"):
            _kill(os.getpid())

    Records.done = dying


def redis_dies() -> None:
    """Redis dies when the bridge is about to delete a result because its last request was handed back, and has others
    to hand back next.
    """
    from lowtide.bridge.collect import Collector
    from lowtide.bridge.records import Records

    count_tries, forget = Records.count_tries, Collector._forget
    left = 0

    def counting(self: Records, messages: Sequence[str], *, before: Sequence[int]) -> list[int]:
        nonlocal left
        counts = count_tries(self, messages, before=before)
        left = len(counts)
        return counts

    def forgetting(self: Collector, task_ids: Sequence[str]) -> None:
        nonlocal left
        left -= len(task_ids)
        unsettled = self._in_flight._unsettled
        deletes = any(unsettled.get(task) == count for task, count in Counter(task_ids).items())
        if deletes and left > 0 and _is_now("before-forget"):
            _kill(self._records._redis.info("server")["process_id"])
        forget(self, task_ids)

    Records.count_tries = counting
    Collector._forget = forgetting


def no_record() -> None:
    """The bridge does not record what it has published."""
    from lowtide.bridge.records import Records

    Records.done = lambda self, messages: None
    Records.acknowledged = lambda self, messages: None


def forget_raises() -> None:
    """A result that can't be deleted ends the handing back of the retries after it."""
    from lowtide.bridge.collect import Collector

    Collector._forget = lambda self, task_ids: self._records.forget(self._in_flight.settled(task_ids))


def no_claim() -> None:
    """A bridge publishes without asking whether another does, or has."""
    from lowtide.bridge.records import Claim, Record, Records

    Records.claim = lambda self, messages: [Claim.OURS] * len(messages)
    Records.look_up = lambda self, messages: [Record(claim=None, tries=0)] * len(messages)


def ack_first() -> None:
    """The bridge acknowledges as soon as it has pulled."""
    from lowtide.bridge.leases import Leases
    from lowtide.bridge.pulls import Pulls

    take = Pulls.take

    def acknowledging(self: Pulls, timeout_s: float) -> Any:
        received = take(self, timeout_s)
        for message in received or []:
            self._pubsub.acknowledge(message.subscription, [message.ack_id])
        return received

    Pulls.take = acknowledging
    Leases.due = lambda self, age_s: {}


def no_resend() -> None:
    """Nobody notices that Redis lost its data, and no chunk that is nowhere is looked for."""
    from lowtide.bridge.lost import Backstop
    from lowtide.tasks.chunks import ChunkResults

    ChunkResults.forgot = lambda self: False
    Backstop.turn = lambda self: None


def no_drain() -> None:
    """SIGTERM ends a process at once."""
    signal.signal = _ignoring_sigterm(signal.signal)


PATCHES: dict[str, Callable[[], None]] = {
    patch.__name__.replace("_", "-"): patch
    for patch in (
        no_reaper,
        early_ack,
        die,
        redis_dies,
        no_record,
        forget_raises,
        no_claim,
        ack_first,
        no_resend,
        no_drain,
    )
}


def _ignoring_sigterm(real: Callable[..., Any]) -> Callable[..., Any]:
    return lambda signum, handler: None if signum == signal.SIGTERM else real(signum, handler)


def _is_now(moment: str) -> bool:
    path = Path(os.environ[DIE_AT])
    if not path.exists() or path.read_text() != moment:
        return False
    path.unlink()
    return True


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def main() -> None:
    for name in sys.argv.pop(1).split(","):
        PATCHES[name]()
    from lowtide.cli.main import main as command

    command(prog_name="lowtide")


if __name__ == "__main__":
    main()
