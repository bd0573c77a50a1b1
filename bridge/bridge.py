"""`Bridge`: the process between Pub/Sub and Celery. Starts its threads, watches them, and drains at the end."""

import contextlib
import logging
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kombu.exceptions import KombuError
from redis import RedisError

from lowtide.bridge.held.leaser import TICK_S
from lowtide.bridge.held.record_watch import LOOK_S
from lowtide.bridge.lateness import lateness
from lowtide.bridge.pubsub.client import Pubsub
from lowtide.bridge.waits import USUAL, Waits
from lowtide.bridge.wiring import Parts
from lowtide.config import Settings
from lowtide.config.process.health import Health, HealthServer
from lowtide.config.process.leave import leave_after
from lowtide.config.process.loop import Loop
from lowtide.config.process.preemption import Preemption, wait_while_announced
from lowtide.tasks.app import configure
from lowtide.tasks.chunks.sending import ChunkSender, new_owner
from lowtide.tasks.held.heartbeat import Heartbeat
from lowtide.tasks.held.sweeper import Sweeper
from lowtide.tasks.redis.connect import connect
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.trouble import trouble_of
from lowtide.tasks.waking.queue_watch import QueueWatch

log = logging.getLogger(__name__)

CONNECTIONS = 10
"""One for each thread that asks Redis, and one that listens: none waits for another."""
WATCH_S = 0.1
TAKE_S = 0.25
JOIN_S = 5.0
GONE_S = 2.0
"""Results of a worker that has just gone may still come for so long: the collector looks for all every second."""
ENDING_S = 2.0
"""After the grace: for the threads to end, all together, also when Redis does not answer them."""
LAST_S = 4.0
"""After the grace: to end and to hand back. A Redis or a Pub/Sub that doesn't answer must not take longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a bridge ends. `drains`: it waits for what may still come, and hands the rest back."""

    code: int
    drains: bool


STOPPED = Exit(code=0, drains=True)
BROKEN = Exit(code=1, drains=False)
ESTRANGED = Exit(code=1, drains=True)


class Bridge:
    """One bridge: `run` it once. Any number of them may serve the same subscriptions."""

    def __init__(self, settings: Settings, *, waits: Waits = USUAL) -> None:
        """Raises SettingsError without a project."""
        self.name = new_owner()
        self._settings = settings
        self._stopping = threading.Event()
        self._redis = redis = connect(settings, most=CONNECTIONS)
        self._pubsub = pubsub = Pubsub()
        self._parts = parts = Parts(
            settings,
            owner=self.name,
            redis=redis,
            pubsub=pubsub,
            sender=ChunkSender(configure(settings), bridge=self.name),
            waits=waits,
        )
        self._puller = self._loop("puller", parts.puller.turn)
        self._collector = self._loop("collector", lambda: parts.collector.turn(TAKE_S))
        self._settler = self._loop("settler", lambda: parts.settler.turn(TAKE_S))
        self._acknowledger = self._loop("acknowledger", lambda: parts.acknowledger.turn(TAKE_S))
        self._leaser = self._loop("leaser", parts.leaser.turn, wait_s=TICK_S)
        self._record_watch = self._loop("record watch", parts.record_watch.turn, wait_s=LOOK_S)
        keys = Keys.of(settings)
        self._heartbeat = Heartbeat(
            redis, keys, kind="bridge", name=self.name, status=self._status, models=settings.model_names
        )
        self._sweeper = Sweeper(redis, keys, queue_watch=QueueWatch(redis, keys, settings.model_names))
        self._workers_seen_s = 0.0
        self._preemption = Preemption(settings)

    def run(self) -> int:
        """Work until SIGTERM, SIGINT or `stop`; then drain. Returns the exit code: 0, or 1 when the process should be
        started afresh: a thread failed or is stuck, or another protocol is spoken in Redis (the fresh one waits).
        """
        self._listen_to_signals()
        wait_while_announced(self._settings, stopped=self._stopping.is_set)
        health = self._serve_health()
        self._start()
        end = self._watch()
        last = leave_after(LAST_S + (self._settings.grace_s if end.drains else 0), code=end.code)
        if health:
            health.stop()
        if end.drains:
            self._drain()
        self._close()
        last.cancel()
        return end.code

    def stop(self) -> None:
        """Drain and return from `run`. From any thread, any number of times."""
        self._stopping.set()

    def health(self) -> Health:
        """Whether the bridge gets anywhere. From any thread."""
        details = dict(self._status())
        for loop in self._loops():
            if loop.failed or loop.stuck(time.monotonic()):
                return Health(
                    ok=False, reason=f"{loop.name} {'failed' if loop.failed else 'is stuck'}", details=details
                )
        if self._parts.settler.dead_letters.on:
            topic = self._settings.dead_letter_topic
            return Health(ok=False, reason=f"the dead-letter topic {topic} refuses messages", details=details)
        others = len(self._settings.subscription) > len(details["refused"])
        return Health(ok=others, reason=_refusal(details["refused"]), details=details)

    def _loop(self, name: str, turn: Any, *, wait_s: float = 0.0) -> Loop:
        return Loop(name, turn, stuck_after_s=self._settings.stuck_after_s, wait_s=wait_s)

    def _loops(self) -> tuple[Loop, ...]:
        return (self._puller, self._collector, self._settler, self._acknowledger, self._leaser, self._record_watch)

    def _status(self) -> dict[str, Any]:
        """What others see of this bridge. `held`: its requests in Redis, of which `Lateness` tells more;
        `content_bytes`: their inline content; `ignored`: events that asked for nothing, since it began; `refused`:
        subscriptions that Pub/Sub refuses it, and why.
        """
        parts, held = self._parts, self._parts.held
        seen = lateness(held.chunks(), packing=parts.fleet.packing, workers=parts.fleet.workers, now_s=time.time())
        counts = {
            "held": held.requests,
            "content_bytes": held.content_bytes,
            "leased": len(held),
            "settling": len(held.to_settle),
        }
        return {**counts, **asdict(seen), "ignored": dict(parts.settler.ignored), "refused": dict(parts.pulls.refused)}

    def _listen_to_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda *_: self._stopping.set())

    def _serve_health(self) -> HealthServer | None:
        if not self._settings.health_port:
            return None
        server = HealthServer(self.health, address=self._settings.health_address, port=self._settings.health_port)
        server.start()
        return server

    def _start(self) -> None:
        # The leaser before anything is leased, and the puller when everything after it is there.
        for loop in (self._leaser, self._acknowledger, self._settler, self._collector, self._record_watch):
            loop.start()
        self._sweeper.start()
        self._heartbeat.start()
        self._preemption.start()
        self._puller.start()
        log.info("bridge %s serves %s", self.name, ", ".join(self._settings.subscription))

    def _watch(self) -> Exit:
        # Asleep, not in `wait`: a signal's handler could not `set` an Event whose lock this thread holds.
        while not self._stopping.is_set():
            time.sleep(WATCH_S)
            now_s = time.monotonic()
            if any(loop.failed for loop in self._loops()):
                return BROKEN
            if stuck := [loop.name for loop in self._loops() if loop.stuck(now_s)]:
                log.error(
                    "no progress of %s for %.0f s:\n%s", ", ".join(stuck), self._settings.stuck_after_s, _stacks()
                )
                return BROKEN
            if self._parts.pulls.refused_for_s() > self._settings.stuck_after_s:
                # A fresh start says what is missing, or makes it.
                log.error(_refusal(self._parts.pulls.refused))
                return BROKEN
            if other := self._heartbeat.other_protocol:
                # What is held goes back: others, of the fleet that is there now, may serve the same subscriptions.
                log.error("Redis: %s", trouble_of(other))
                return ESTRANGED
        return STOPPED

    def _drain(self) -> None:
        parts = self._parts
        began_s = time.monotonic()
        until_s = began_s + self._settings.grace_s
        log.info("bridge %s drains: %d messages held", self.name, len(parts.held))
        # First, so that nothing comes that would only be handed back.
        if self._puller.stop(min(JOIN_S, self._settings.grace_s)):
            parts.puller.close()
        # In a thread of its own: it asks Redis, which may not answer in time.
        last_work = threading.Thread(target=self._wait_for_work, args=(until_s,), name="bridge-drain", daemon=True)
        last_work.start()
        last_work.join(max(0.0, until_s - time.monotonic()))
        until_s += ENDING_S
        # Before the rest is handed back: what is handed back must not be published as well.
        ending = (self._collector, self._settler)
        for loop in ending:
            loop.stop(0.0)
        for loop in ending:
            loop.stop(max(0.0, until_s - time.monotonic()))
        # What was published and not yet acknowledged would come a second time, to be acknowledged.
        while parts.held.to_acknowledge and time.monotonic() < until_s:
            time.sleep(WATCH_S)
        if self._puller.stop(0.0):
            parts.puller.close()  # if it was slow to stop
        rest = parts.held.keys()
        parts.leaser.hand_back(rest)
        log.info(
            "bridge %s drained in %.1f s: %d messages handed back", self.name, time.monotonic() - began_s, len(rest)
        )

    def _wait_for_work(self, until_s: float) -> None:
        while time.monotonic() < until_s and self._something_may_come():
            self._send_again()
            time.sleep(WATCH_S)

    def _send_again(self) -> None:
        """In the place of the puller, once that has ended: two at it would send the same chunks."""
        if self._puller.stop(0.0):
            with contextlib.suppress(RedisError, KombuError):
                self._parts.dispatch.send_again()

    def _something_may_come(self) -> bool:
        """Work that is on its way out, or at workers that live."""
        held = self._parts.held
        at_workers = held.chunks_sent > 0 and self._workers_live()
        return at_workers or bool(len(held.to_try_again) + len(held.to_settle) + len(held.to_acknowledge))

    def _workers_live(self) -> bool:
        """Asked only once the puller has ended, which reads the fleet until then. Workers that stop with us hand back
        what we wait for.
        """
        if not self._puller.stop(0.0):
            return True  # not known: the grace period decides
        now_s = time.monotonic()
        try:
            if self._parts.fleet.read().workers:
                self._workers_seen_s = now_s
        except RedisError:
            return True  # not known: the grace period decides
        return now_s - self._workers_seen_s < GONE_S

    def _close(self) -> None:
        for loop in self._loops():
            loop.stop(JOIN_S if not loop.failed else 0.0)
        self._preemption.stop()
        self._sweeper.stop()
        self._leave_no_content()
        self._heartbeat.stop()
        self._parts.dispatch.close()
        self._pubsub.close()
        self._redis.close()

    def _leave_no_content(self) -> None:
        """Who has its messages next sends it anew, and a worker passes by a task without it. Before the bridge signs
        off: what is left counts for as long as it is registered.
        """
        try:
            self._parts.blobs.leave_none(self.name)
        except RedisError as error:
            log.debug("content of %s is left to the sweeper: %s", self.name, error)


def _refusal(refused: Mapping[str, str]) -> str:
    """A sentence, if there is anything to say."""
    each = "; ".join(f"{subscription}: {why}" for subscription, why in refused.items())
    return f"Pub/Sub refuses to be pulled: {each}" if each else ""


def _stacks() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"{names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
    )
