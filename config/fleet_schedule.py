"""`FleetSchedule`: so many workers at a certain time of day, as a setting holds it."""

from pydantic import BaseModel, ConfigDict


class FleetSchedule(BaseModel):
    """One entry of LOWTIDE_FLEET_SCHEDULES, by the names of Compute Engine's ScalingSchedule. Durations in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    min_required_replicas: int
    cron: str
    duration_s: int
    time_zone: str = "UTC"
    disabled: bool = False
