"""Names of all metrics: one table for the exporter, the Prometheus endpoint, the dashboard and docs."""

from dataclasses import dataclass
from typing import Literal

CUSTOM_PREFIX = "custom.googleapis.com/lowtide/"
"""Of the metrics in Cloud Monitoring."""

PROMETHEUS_PREFIX = "lowtide_"

FLEET = "fleet"
MODEL = "model"
STATE = "state"
SOURCE = "source"
PUBSUB = "pubsub"
"""A value of the label `source`."""
PUBSUB_UNDELIVERED = "pubsub.googleapis.com/subscription/num_undelivered_messages"
"""Google's own: messages of a subscription that nobody has acknowledged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One gauge. `unit` is UCUM, as Cloud Monitoring wants it; `labels` come beside the fleet's."""

    name: str
    unit: Literal["s", "1", "1/s"]
    description: str
    labels: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        """Its name in Cloud Monitoring."""
        return CUSTOM_PREFIX + self.name

    @property
    def display_name(self) -> str:
        """What Cloud Monitoring shows."""
        return f"Lowtide {self.name.replace('_', ' ')}"

    @property
    def prometheus(self) -> str:
        """Its name at the Prometheus endpoint."""
        return PROMETHEUS_PREFIX + self.name


GPU_SECONDS_OUTSTANDING = Metric(
    name="gpu_seconds_outstanding",
    unit="s",
    description="What the instance group is sized by: device seconds of work that waits or runs, and beside it "
    "LOWTIDE_FLEET_WORK_S for each suspect worker.",
)
REQUESTS_OUTSTANDING = Metric(
    name="requests_outstanding",
    unit="1",
    description="Requests that wait or run, in Pub/Sub and in Redis, each counted once.",
)
PUBSUB_REQUESTS = Metric(
    name="pubsub_requests", unit="1", description="Messages that Pub/Sub holds and nobody has acknowledged."
)
REDIS_REQUESTS = Metric(
    name="redis_requests",
    unit="1",
    description="Requests in Redis: queued, held by a live worker, or left behind by a dead one.",
    labels=(MODEL, STATE),
)
SECONDS_PER_REQUEST = Metric(
    name="seconds_per_request", unit="s", description="Measured device seconds per request.", labels=(MODEL,)
)
OLDEST_WAITING = Metric(
    name="oldest_waiting",
    unit="s",
    description="Age of the oldest request that a bridge holds or Redis has, since it was published or sent.",
)
REQUESTS_AT_RISK = Metric(
    name="requests_at_risk",
    unit="1",
    description="Requests at the bridges whose expires_at comes before the work ahead of them is done.",
)
THROUGHPUT = Metric(name="throughput", unit="1/s", description="Requests that workers finished.")
FAILURES = Metric(name="failures", unit="1/s", description="Requests that failed.")
EVENTS_IGNORED = Metric(
    name="events_ignored",
    unit="1/s",
    description="Events of Cloud Storage that are no upload, which bridges acknowledged without a result.",
)
WORKERS = Metric(name="workers", unit="1", description="Live workers, without those that are suspect.")
WORKERS_BUSY = Metric(name="workers_busy", unit="1", description="Live workers that have work.")
WORKERS_SUSPECT = Metric(
    name="workers_suspect", unit="1", description="Live workers that fail what others answer, and take next to nothing."
)
BRIDGES = Metric(name="bridges", unit="1", description="Live bridges.")
SOURCE_AGE = Metric(
    name="source_age",
    unit="s",
    description="Age of what is known of a source: of the last reading, and for Pub/Sub of its metric's point, up to "
    "3 minutes as a rule.",
    labels=(SOURCE,),
)
WRITES_FAILED = Metric(
    name="writes_failed", unit="1", description="Time series that Cloud Monitoring refused since the exporter started."
)
FLOWER_WORKERS_ONLINE = Metric(
    name="flower_workers_online", unit="1", description="Workers that Flower shows as online."
)
FLOWER_RUNTIME = Metric(
    name="flower_runtime", unit="s", description="Mean run time of the tasks that ended of late, by Flower."
)
FLOWER_PREFETCH_TIME = Metric(
    name="flower_prefetch_time", unit="s", description="Time that tasks wait in workers before they run, by Flower."
)
FLOWER_SUCCEEDED = Metric(name="flower_succeeded", unit="1/s", description="Tasks that succeeded, by Flower.")
FLOWER_FAILED = Metric(name="flower_failed", unit="1/s", description="Tasks that failed, by Flower.")

METRICS = tuple(metric for metric in tuple(globals().values()) if isinstance(metric, Metric))
"""All of the above, in their order."""
