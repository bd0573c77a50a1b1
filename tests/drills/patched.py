"""`python -m tests.drills.patched PATCHES COMMAND…`: a Lowtide command with protecting pieces switched off, or with
moments at which it or its Redis dies. The product knows nothing of this.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

DIE_AT = "DRILL_DIE_AT"
"""Environment variable: a file. While it names a moment, somebody dies at that moment, and the file is gone."""

HASTE_S = 0.1


def no_sweeper() -> None:
    """Nobody gives back what a vanished worker held."""
    from lowtide.tasks.held.sweeper import Sweeper
    from lowtide.workers.consumer.session import WorkerSession

    Sweeper.sweep = lambda self: 0
    WorkerSession.reclaim = lambda self: None


def early_ack() -> None:
    """A worker acknowledges a task when it takes it, and nobody looks for chunks that are nowhere."""
    from lowtide.tasks import app
    from lowtide.tasks.chunks.dispatch import Dispatch

    config = app.celery_config
    app.celery_config = lambda settings: {**config(settings), "task_acks_late": False}
    Dispatch._look_for_lost = lambda self: None


def die() -> None:
    """The bridge dies between publish and record, or between record and acknowledge, when DRILL_DIE_AT says so."""
    from lowtide.bridge.held.records import Records

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
    from lowtide.bridge.held.held import Held
    from lowtide.bridge.held.records import Records

    count_tries, release = Records.count_tries, Held.release
    left = 0
    server: int | None = None

    def counting(self: Records, messages: Sequence[str], *, before: Sequence[int]) -> list[int]:
        nonlocal left, server
        counts = count_tries(self, messages, before=before)
        left, server = len(counts), self._redis.info("server")["process_id"]
        return counts

    def releasing(self: Held, keys: Iterable[str]) -> dict[str, list[str]]:
        nonlocal left
        gone = list(keys)
        left -= len(gone)
        undeleted = len(self.to_delete)
        ack_ids = release(self, gone)
        if len(self.to_delete) > undeleted and left > 0 and _is_now("before-forget"):
            assert server is not None
            _kill(server)
        return ack_ids

    Records.count_tries = counting
    Held.release = releasing


def no_record() -> None:
    """The bridge does not record what it has published."""
    from lowtide.bridge.held.records import Records

    Records.done = lambda self, messages: None
    Records.acknowledged = lambda self, messages: None


def forget_raises() -> None:
    """A result that can't be deleted ends the handing back of the retries after it."""
    from lowtide.bridge.held.leaser import Leaser
    from lowtide.config import load_settings
    from lowtide.tasks.chunks.blob import Blobs
    from lowtide.tasks.redis.connect import connect
    from lowtide.tasks.redis.keys import Keys

    settings, hand_back = load_settings(), Leaser.hand_back
    blobs = Blobs(connect(settings), Keys.of(settings))

    def raising(self: Leaser, keys: Iterable[str], *, after_s: float = 0.0) -> None:
        hand_back(self, keys, after_s=after_s)
        with self._held.to_delete.take(1000, timeout_s=0.0) as task_ids:
            blobs.forget(task_ids)

    Leaser.hand_back = raising


def content_fails() -> None:
    """A sender takes content that is gone for a failure of its own, which another try may cure."""
    from lowtide.tasks.chunks.results import ChunkResult

    ChunkResult.lost_content = property(lambda self: False)  # type: ignore[assignment]  # as it is one there


def common() -> None:
    """A worker's connection gives back what is old of all that kombu holds, as kombu's own does."""
    from kombu.transport import redis

    from lowtide.workers.consumer.channel import QoS
    from lowtide.workers.consumer.poller import Poller

    def restoring(self: Any) -> None:
        for channel in self._channels:
            channel.visibility_timeout = HASTE_S
            channel.unacked_restore_limit = None
            if channel.active_queues:
                channel.qos.restore_visible(num=channel.unacked_restore_limit)

    QoS.restore_visible = redis.QoS.restore_visible
    Poller.maybe_restore_messages = restoring


def no_claim() -> None:
    """A bridge publishes without asking whether another does, or has."""
    from lowtide.bridge.held.records import Claim, Record, Records

    Records.claim = lambda self, messages: [Claim.OURS] * len(messages)
    Records.look_up = lambda self, messages: [Record(claim=None, tries=0)] * len(messages)


def ack_first() -> None:
    """The bridge acknowledges as soon as it has pulled."""
    from lowtide.bridge.held.held import Held
    from lowtide.bridge.pubsub.pulls import Pulls

    take = Pulls.take

    def acknowledging(self: Pulls, timeout_s: float) -> Any:
        received = take(self, timeout_s)
        for message in received or []:
            self._pubsub.acknowledge(message.subscription, [message.ack_id])
        return received

    Pulls.take = acknowledging
    Held.due = lambda self, age_s: {}


def no_resend() -> None:
    """Nobody notices that Redis lost its data, and no chunk that is nowhere is looked for."""
    from lowtide.tasks.chunks.dispatch import Dispatch
    from lowtide.tasks.chunks.results import ChunkResults

    ChunkResults.forgot = lambda self: False
    Dispatch._look_for_lost = lambda self: None


def no_patience() -> None:
    """A worker stores a result as Celery does, and gives it up when Redis does not take it at once; and no chunk that
    is nowhere is looked for.
    """
    from redis import RedisError

    from lowtide.tasks.chunks.dispatch import Dispatch
    from lowtide.workers.consumer.results import Patience, ResultBackend

    def ask(self: Patience, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except RedisError:
            return None

    Patience.ask = ask
    ResultBackend.set = lambda self, key, value, **_: self.patience.ask(lambda: self._set(key, value))
    Dispatch._look_for_lost = lambda self: None


def brittle() -> None:
    """A worker ends when its connection breaks, and nobody gives back what it held."""
    from redis import RedisError

    from lowtide.workers.consumer.channel import Channel
    from lowtide.workers.consumer.results import Patience

    no_sweeper()
    close = Channel.close

    def ask(self: Patience, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except RedisError:
            os._exit(1)

    def closing(self: Channel) -> None:
        if self._consumers and not self.closed:
            os._exit(1)
        close(self)

    Channel.close = closing
    Patience.ask = ask


def impatient() -> None:
    """A worker waits for an answer of Redis for a tenth of a second."""
    from lowtide.tasks import app
    from lowtide.tasks.redis import connect as store

    config = app.celery_config

    def hasty(settings: Any) -> dict[str, Any]:
        options = config(settings)
        transport = {**options["broker_transport_options"], "socket_timeout": HASTE_S}
        return {**options, "broker_transport_options": transport, "redis_socket_timeout": HASTE_S}

    app.celery_config = hasty
    defaults = store.connect.__kwdefaults__
    assert defaults
    assert "timeout_s" in defaults
    defaults["timeout_s"] = HASTE_S


def pull_once() -> None:
    """A bridge does not pull again from a subscription that a pull failed from."""
    from lowtide.bridge.pubsub.subscription import PulledSubscription

    PulledSubscription.rests = lambda self, now_s: self._failed_s > 0


def publish_lossy() -> None:
    """What could not be published counts as published."""
    from lowtide.bridge.pubsub.client import Pubsub, PubsubUnavailable

    publish = Pubsub.publish

    def publishing(self: Pubsub, topic: str, messages: Sequence[Any]) -> Sequence[str]:
        try:
            return publish(self, topic, messages)
        except PubsubUnavailable:
            return []

    Pubsub.publish = publishing


def no_notice() -> None:
    """Nobody listens to the metadata server."""
    from lowtide.config.process.preemption import Preemption

    Preemption.start = lambda self: None


def no_bisection() -> None:
    """A batch that fails fails all that are in it."""
    from lowtide.workers.device import devices, predict
    from lowtide.workers.engine.job import Predicted

    def failed(self: Any, model: Any, items: Sequence[Any], error: BaseException, batch_s: float) -> list[Predicted]:
        blame = predict._blame(model, error, short=devices.out_of_memory(error))
        return [Predicted(ready=ready, batch_s=batch_s, n=len(items), error=blame) for ready in items]

    predict.Predictor._failed = failed


def no_deadline() -> None:
    """A batch may take an hour."""
    os.environ["LOWTIDE_BATCH_DEADLINE_S"] = "3600"


def no_solo() -> None:
    """Nobody remembers that a task was lost: its requests run together again, and none of them gets a strike."""
    from lowtide.tasks.running.losses import History, Losses

    Losses.look = lambda self, task: History()


def no_suspicion() -> None:
    """A worker doubts itself never, whatever it fails."""
    from lowtide.workers.suspicion.standing import Standing

    Standing._is_heard = lambda self, state: False


def no_drain() -> None:
    """SIGTERM ends a process at once."""
    signal.signal = _ignoring_sigterm(signal.signal)


PATCHES: dict[str, Callable[[], None]] = {
    patch.__name__.replace("_", "-"): patch
    for patch in (
        no_sweeper,
        early_ack,
        die,
        redis_dies,
        no_record,
        forget_raises,
        content_fails,
        common,
        no_claim,
        ack_first,
        no_resend,
        no_patience,
        brittle,
        impatient,
        pull_once,
        publish_lossy,
        no_notice,
        no_bisection,
        no_deadline,
        no_solo,
        no_suspicion,
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
