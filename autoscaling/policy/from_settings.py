"""The policy of a fleet's instance group, from the settings."""

from lowtide.autoscaling.policy.policy import Policy, ScaleInControl, Signal
from lowtide.autoscaling.policy.schedule import Schedule
from lowtide.config import Settings, SettingsError
from lowtide.config.metrics import FLEET, GPU_SECONDS_OUTSTANDING, PUBSUB_UNDELIVERED


def policy_of(settings: Settings) -> Policy:
    """Work outstanding ÷ the work wanted per worker; Pub/Sub's own count beside it; schedules; the fleet's limits.

    Raises SettingsError on what Compute Engine would refuse.
    """
    try:
        return Policy(
            min_replicas=settings.fleet_min,
            max_replicas=settings.fleet_max,
            signals=(own_signal(settings), *_native_signals(settings)),
            schedules=tuple(Schedule(**entry.model_dump()) for entry in settings.fleet_schedules),
            stabilization_period_s=settings.fleet_stabilization_s,
            scale_in_control=_scale_in_control(settings),
        )
    except ValueError as error:
        raise SettingsError(f"LOWTIDE_FLEET_…: {error}") from error


def own_signal(settings: Settings) -> Signal:
    """The work outstanding, as `lowtide autoscale` writes it."""
    return Signal(
        metric=GPU_SECONDS_OUTSTANDING.type,
        filter=f'resource.type = "global" AND metric.labels.{FLEET} = "{settings.fleet}"',
        single_instance_assignment=settings.fleet_work_s,
    )


def _native_signals(settings: Settings) -> tuple[Signal, ...]:
    """Pub/Sub's count of one subscription: a policy can't name a metric twice (page "Scale based on Monitoring
    metrics"). It comes from Google and wakes an empty fleet also when our exporter is down.
    """
    if not (settings.fleet_messages and settings.project and settings.subscription):
        return ()
    _, project, _, name = settings.subscription_path(settings.subscription[0]).split("/")
    return (
        Signal(
            metric=PUBSUB_UNDELIVERED,
            filter=f'resource.type = "pubsub_subscription" AND resource.labels.project_id = "{project}" '
            f'AND resource.labels.subscription_id = "{name}"',
            single_instance_assignment=settings.fleet_messages,
        ),
    )


def _scale_in_control(settings: Settings) -> ScaleInControl | None:
    if settings.fleet_scale_in_max is None:
        return None
    return ScaleInControl(time_window_s=settings.fleet_scale_in_window_s, max_scaled_in=settings.fleet_scale_in_max)
