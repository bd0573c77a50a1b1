"""The policy of a fleet's instance group, from the settings."""

from lowtide.autoscaling.policy import Policy, Signal
from lowtide.config import Settings
from lowtide.config.metrics import FLEET, GPU_SECONDS_OUTSTANDING


def policy_of(settings: Settings) -> Policy:
    """Work outstanding ÷ the work wanted per worker, within the fleet's limits. Raises ValueError."""
    signal = Signal(
        metric=GPU_SECONDS_OUTSTANDING.type,
        filter=f'resource.type = "global" AND metric.labels.{FLEET} = "{settings.fleet}"',
        single_instance_assignment=settings.fleet_work_s,
    )
    return Policy(
        min_replicas=settings.fleet_min,
        max_replicas=settings.fleet_max,
        signals=(signal,),
        stabilization_period_s=settings.fleet_stabilization_s,
    )
