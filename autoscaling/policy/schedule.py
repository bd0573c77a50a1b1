"""Schedules of an autoscaling policy: how many machines must be there at a certain time of day."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

LATER = timedelta(hours=3)
"""More than any clock has been set back."""
MIN_DURATION_S = 300
"""compute_v1.AutoscalingPolicyScalingSchedule.duration_sec: "the minimum allowed value is 300"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """At least `min_required_replicas`, from each start by `cron` for `duration_s`.

    Source: compute_v1.AutoscalingPolicyScalingSchedule. `cron` may have a year as its sixth field; here it is one year
    or `*`. `time_zone` is a name of the tz database. Raises ValueError on what the API refuses.
    """

    name: str
    min_required_replicas: int
    cron: str
    duration_s: int
    time_zone: str = "UTC"
    disabled: bool = False

    def __post_init__(self) -> None:
        # Not at the top: a policy without schedules does without the extra that installs it.
        from cronsim import CronSim, CronSimError

        if self.min_required_replicas < 0:
            raise ValueError(f"schedule {self.name}: min_required_replicas is negative")
        if self.duration_s < MIN_DURATION_S:
            raise ValueError(f"schedule {self.name}: duration_s is {self.duration_s}, less than {MIN_DURATION_S}")
        try:
            ZoneInfo(self.time_zone)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"schedule {self.name}: no time zone {self.time_zone!r}") from error
        try:
            CronSim(self._fields()[0], datetime.fromtimestamp(0, ZoneInfo(self.time_zone)))
        except CronSimError as error:
            raise ValueError(f"schedule {self.name}: cron {self.cron!r}: {error}") from error

    def is_active(self, *, now: float) -> bool:
        """Whether a start lies at most `duration_s` before `now` (seconds since 1970); the end itself is outside."""
        if self.disabled:
            return False
        start = self._last_start(now)
        return start is not None and now - start.timestamp() < self.duration_s

    def _last_start(self, now: float) -> datetime | None:
        from cronsim import CronSim

        cron, year = self._fields()
        # Beyond now: in the hour that a clock repeats, what has begun may come later by that clock.
        latest = datetime.fromtimestamp(now, ZoneInfo(self.time_zone)) + LATER
        if year is not None:
            latest = min(latest, datetime(year, 12, 31, 23, 59, 59, tzinfo=latest.tzinfo))
        try:
            for start in CronSim(cron, latest, reverse=True):
                if start.timestamp() <= now:
                    return start if year in (None, start.year) else None
        except OverflowError:
            pass  # before the first year that there is
        return None

    def _fields(self) -> tuple[str, int | None]:
        """The five fields, and the year if there is one."""
        fields = self.cron.split()
        if len(fields) == 6 and re.fullmatch(r"(?!0000)\d{4}|\*", fields[5]):
            return " ".join(fields[:5]), None if fields[5] == "*" else int(fields[5])
        if len(fields) != 5:
            raise ValueError(
                f"schedule {self.name}: cron {self.cron!r} wants five fields, or a year from 0001 as the sixth"
            )
        return self.cron, None
