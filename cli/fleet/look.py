"""`Looker`: a fleet seen again and again, with Redis and Cloud Monitoring there or away."""

import contextlib
import math
import time
from dataclasses import replace
from typing import Self

from redis import RedisError

from lowtide.autoscaling.export.monitoring_reader import MonitoringReader
from lowtide.autoscaling.policy.decide import GroupState
from lowtide.autoscaling.policy.from_settings import policy_of
from lowtide.autoscaling.policy.remembered import remembered
from lowtide.autoscaling.signal.snapshot import Camera
from lowtide.cli.fleet.status_report import Look, SourceAge, StatusReport, Waiting, recommended
from lowtide.cli.fleet.unread import UnreadList, UnreadReader
from lowtide.config import Settings
from lowtide.config.metrics import GPU_SECONDS_OUTSTANDING
from lowtide.tasks.redis.connect import connect

UNREAD_EVERY_S = 30.0


class Looker:
    """Each look's recommendation knows the earlier ones: its own, and the group's if Cloud Monitoring tells them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._policy = policy_of(settings)
        redis = connect(settings)
        self._fleet = Camera(redis, settings, asks=True).held()
        self._unread_reader = UnreadReader(redis, settings)
        self._unread: tuple[UnreadList, ...] = ()
        self._unread_next_s = -math.inf
        self._monitoring = MonitoringReader(settings)
        self._group = GroupState()
        self._began_at: float | None = None
        """By Redis' clock."""
        self._has_read_back = False

    def __enter__(self) -> Self:
        self._monitoring.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._monitoring.stop()

    def look(self) -> Look:
        """The fleet now, or as it last was while Redis is away."""
        self._monitoring.wait()
        snapshot = self._fleet.refresh()
        redis, pubsub = SourceAge.of(self._fleet), SourceAge.of(self._monitoring.pubsub)
        if snapshot is None:
            return Waiting(fleet=self._settings.fleet, redis=redis, pubsub=pubsub)
        now = snapshot.at + redis.age_s
        remembers = self._remembers(now)
        seen = self._monitoring.pubsub.value
        undelivered = None if seen is None else seen.messages
        work = snapshot.work(undelivered=undelivered, worker_s=self._settings.fleet_work_s)
        signals = None if self._monitoring.signals.why else self._monitoring.signals.value
        group = replace(self._group, size=len(snapshot.workers))
        decision = recommended(self._policy, signals=signals, work=work, group=group, now=now)
        self._group = decision.group
        return StatusReport(
            fleet=self._settings.fleet,
            snapshot=snapshot,
            undelivered=undelivered,
            work=work,
            decision=decision,
            remembers=remembers,
            redis=redis,
            pubsub=pubsub,
            unread=self._unread_lists() if redis.why is None else self._unread,
        )

    def _unread_lists(self) -> tuple[UnreadList, ...]:
        """Not at every look: it goes through all keys."""
        if time.monotonic() >= self._unread_next_s:
            with contextlib.suppress(RedisError, ValueError):
                self._unread = self._unread_reader.read()
            self._unread_next_s = time.monotonic() + UNREAD_EVERY_S
        return self._unread

    def _remembers(self, now: float) -> bool:
        """Whether it knows what was needed as far back as the policy looks. Reads the group's memory back if it can."""
        if self._began_at is None:
            self._began_at = now
        histories = self._monitoring.signals.value
        if histories and histories[GPU_SECONDS_OUTSTANDING.type] and not self._has_read_back:
            before = remembered(self._policy, histories=histories, now=now)
            self._group = replace(self._group, recommendations=(*before, *self._group.recommendations))
            self._has_read_back = True
        return self._has_read_back or now - self._began_at >= self._policy.window_s
