"""`Exporter`: every 15 s the fleet's figures go to Cloud Monitoring, from one of those who could write them.

Any number of exporters may run; the one that holds a lock in Redis writes. Without Redis the last leader keeps writing
what it holds: a signal that stops would freeze the fleet, and one that says zero would end it. When Redis is away for
the leader alone, another takes over, and its points tell the first to stop.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from redis import Redis

from lowtide.autoscaling.export.flower_pace import FlowerReader, FlowerReading
from lowtide.autoscaling.export.monitoring import Monitoring, WriteRefused
from lowtide.autoscaling.export.samples import Done, Sample, flower_samples, own_samples, samples_of
from lowtide.autoscaling.signal.last_value import LastValue, SourceUnreadable
from lowtide.autoscaling.signal.signal import Undelivered
from lowtide.autoscaling.signal.snapshot import Camera, Snapshot
from lowtide.config import Settings
from lowtide.config.metrics import GPU_SECONDS_OUTSTANDING, PUBSUB
from lowtide.config.process.health import Health
from lowtide.config.process.outage import Outage
from lowtide.tasks.redis.keys import Keys
from lowtide.tasks.redis.leadership import Leadership
from lowtide.tasks.redis.registry import announce

log = logging.getLogger(__name__)

EVERY_S = 15.0
"""An instance group wants a point at least every 60 s ("Scale based on Monitoring metrics"): two may fail."""
LEAD_S = 2 * EVERY_S
"""The lock of a leader that died lapses after so long: with a turn's length and what the next one reads, its successor
writes within the 60 s.
"""
APART_S = 10.0
"""Between two points of a series, whatever the clock says: Cloud Monitoring refuses what comes within about 5 s."""
ALARM_AFTER_S = 60.0
"""Without a point for so long an instance group may hold its size."""


@dataclass(slots=True)
class Exported:
    """What was last seen, for the Prometheus endpoint, and what became of it."""

    samples: list[Sample] = field(default_factory=list)
    writes_failed: int = 0


class Exporter:
    """`turn` every 15 s. From one thread; `latest` and `health` from any."""

    def __init__(
        self,
        settings: Settings,
        redis: Redis,
        monitoring: Monitoring,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._keys = Keys.of(settings)
        self._models = settings.model_names
        self._worker_s = settings.fleet_work_s
        self._monitoring = monitoring
        self._clock = clock
        self._monotonic = monotonic
        self._fine_s = monotonic()
        """When it last wrote the signal, or another had that to do."""
        self._fleet = Camera(redis, settings).held(clock=monotonic)
        self._pubsub = LastValue[Undelivered](
            PUBSUB, monitoring.undelivered, age_of=lambda seen: seen.age_s, clock=monotonic
        )
        self._flower: LastValue[FlowerReading] | None = None
        if settings.flower_url:
            login = next(iter(settings.flower_basic_auth), "")
            reader = FlowerReader(settings.flower_url, auth=login, clock=monotonic)
            self._flower = LastValue("flower", reader.read, clock=monotonic)
        self._leadership = Leadership(redis, self._keys.exporter, lapse_s=LEAD_S)
        self._outage = Outage("Cloud Monitoring refuses what is written")
        self._unknown = Outage("there is no signal to write, and a group holds its size without one")
        self._undescribed = Outage("Cloud Monitoring refuses descriptors")
        self._rates_s: dict[str, float] = {}
        self._done: Done | None = None
        self._described = False
        self._written_at: float | None = None
        self._passes = False
        """Leaves one turn to the others, whether or not there are any."""
        self._contested: float | None = None
        """When another was last seen to write the signal, by the monotonic clock."""
        self._tried_at: float | None = None
        """Of the last points that it wanted to write: a write without an answer may have been done."""
        self.latest = Exported()

    def turn(self) -> None:
        """Read, and write if it is ours to write."""
        before = self._fleet.value
        snapshot = self._fleet.refresh()
        if not self._fleet.why:  # of a fleet of none, without a bridge, nobody else tells
            announce(self._redis, self._keys, self._models)
        if self._pubsub.refresh() is None and (seen := self._exported_before()):
            self._pubsub.hold(seen)
        if self._flower:
            self._flower.refresh()
        self.latest.samples = self._samples(before, snapshot)
        if self._leads():
            if self._knows:
                self._unknown.over()
            else:
                self._unknown.failed(SourceUnreadable(self._ignorance))
            self._write(self.latest.samples)
            if self._knows and self._leadership.sure and self._unwritten_s > ALARM_AFTER_S:
                log.warning("the signal was not written for %.0f s: another may try", self._unwritten_s)
                self._leadership.give_up()
                self._passes = True

    def close(self) -> None:
        """Let another write."""
        self._leadership.give_up()

    def health(self) -> Health:
        """Ill when it is the one to write and has not written the signal for a while, or can't read Redis."""
        ages_s = {name: round(age_s, 1) for name, age_s in self._ages_s().items()}
        details = {"writes": self._leadership.held, "source_age_s": ages_s, "writes_failed": self.latest.writes_failed}
        if self._unwritten_s > ALARM_AFTER_S:
            reason = f"the signal was not written for {self._unwritten_s:.0f} s"
            if not self._knows:
                reason += f": {self._ignorance}"
            return Health(ok=False, reason=reason, details=details)
        if self._contested is not None and self._monotonic() - self._contested < ALARM_AFTER_S:
            reason = "another writes the signal of this fleet: every fleet needs a LOWTIDE_FLEET of its own"
            return Health(ok=False, reason=reason, details=details)
        if self._fleet.age_s > ALARM_AFTER_S:
            return Health(ok=False, reason=f"Redis was not read for {self._fleet.age_s:.0f} s", details=details)
        return Health(ok=True, details=details)

    def _leads(self) -> bool:
        if self._passes:
            self._passes = False
            return False
        if not self._leadership.renew():
            self._fine_s = self._monotonic()
            return False
        if self._leadership.anew:
            log.info("writes the figures of the fleet from now on")
            self._written_at = self._tried_at = None  # others have written meanwhile
        if self._another_writes():
            if not self._leadership.sure:
                log.warning("Redis can't be read from here, and another writes the figures of the fleet: stops writing")
                self._leadership.held = False
                return False
            self._contested = self._monotonic()
        return True

    def _samples(self, before: Snapshot | None, snapshot: Snapshot | None) -> list[Sample]:
        own = [
            *own_samples(self._ages_s(), writes_failed=self.latest.writes_failed),
            *(flower_samples(self._flower.value) if self._flower and self._flower.value else ()),
        ]
        if snapshot is None:
            return own  # never read: nothing is known, and zero would be a lie
        self._rates_s |= snapshot.rates_s  # an emptied Redis must not make every model look unmeasured
        snapshot = replace(snapshot, rates_s=self._rates_s)
        undelivered = None if self._pubsub.value is None else self._pubsub.value.messages
        work = snapshot.work(undelivered=undelivered, worker_s=self._worker_s)
        if before is not None and before.at < snapshot.at:  # else Redis was not read again: what was seen is held
            self._done = Done.between(before, snapshot)
        return [*samples_of(snapshot, work=work, done=self._done, undelivered=undelivered), *own]

    def _ages_s(self) -> dict[str, float]:
        """How old what is known is, by source."""
        sources: list[LastValue[Any]] = [self._fleet, self._pubsub, *([self._flower] if self._flower else [])]
        return {source.name: source.age_s for source in sources}

    @property
    def _knows(self) -> bool:
        """There is a signal to write."""
        return any(sample.metric is GPU_SECONDS_OUTSTANDING for sample in self.latest.samples)

    @property
    def _ignorance(self) -> str:
        """Why there is none."""
        if self._fleet.value is None:
            return f"Redis was never read: {self._fleet.why}"
        return (
            "nobody knows what waits, as no bridge lives and Pub/Sub's metric was never read. "
            "A fleet that only Python callers use says so with LOWTIDE_SUBSCRIPTION= (nothing after it)"
        )

    @property
    def _unwritten_s(self) -> float:
        """Seconds for which the signal was ours to write and was not written."""
        return self._monotonic() - self._fine_s

    def _exported_before(self) -> Undelivered | None:
        """Pub/Sub's count as it was last written, when it can't be read since this process began."""
        try:
            return self._monitoring.pubsub_requests()
        except SourceUnreadable:
            return None

    def _write(self, samples: list[Sample]) -> None:
        at_s = 0.0
        try:
            if not self._described:
                self._describe()
            at_s = self._tried_at = self._next_at()
            self._monitoring.write(samples, at_s=at_s)
        except WriteRefused as error:
            self.latest.writes_failed += error.count
            self._outage.failed(error)
            if error.partly:
                self._written_at = at_s
            if error.signal:
                self._fine_s = self._monotonic()
        except SourceUnreadable as error:
            self._outage.failed(error)
        else:
            self._written_at = at_s
            if self._knows:
                self._fine_s = self._monotonic()
            self._outage.over()

    def _describe(self) -> None:
        """Descriptors that are refused keep nothing from being written: only their own series may be refused too."""
        try:
            self._monitoring.describe()
        except WriteRefused as error:
            self._undescribed.failed(error)
        else:
            self._described = True
            self._undescribed.over()

    def _another_writes(self) -> bool:
        """The signal has a point that isn't ours. False when that can't be read."""
        try:
            newest_at = self._monitoring.newest_at()
        except SourceUnreadable:
            return False
        return newest_at is not None and self._tried_at is not None and newest_at > self._tried_at + 1.0

    def _next_at(self) -> float:
        """The time of the next points: now, but after those that are there, whoever wrote them by whatever clock."""
        if self._written_at is None:
            self._written_at = self._monitoring.newest_at()
        now = self._clock()
        return now if self._written_at is None else max(now, self._written_at + APART_S)
