"""Cloud Monitoring by its client: our metrics go out, Pub/Sub's own comes in."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import grpc
from google.api import metric_pb2
from google.api_core.exceptions import ClientError, GoogleAPICallError, RetryError
from google.auth.exceptions import DefaultCredentialsError
from google.cloud.monitoring_v3 import MetricServiceClient, types
from google.cloud.monitoring_v3.services.metric_service.transports import MetricServiceGrpcTransport
from google.protobuf import any_pb2

from lowtide.autoscaling.export.samples import Sample
from lowtide.autoscaling.policy.decide import SignalPoint
from lowtide.autoscaling.policy.from_settings import own_signal
from lowtide.autoscaling.signal.last_value import SourceUnreadable
from lowtide.autoscaling.signal.signal import Undelivered
from lowtide.config import Settings, SettingsError
from lowtide.config.metrics import (
    FLEET,
    GPU_SECONDS_OUTSTANDING,
    METRICS,
    PUBSUB,
    PUBSUB_REQUESTS,
    PUBSUB_UNDELIVERED,
    SOURCE,
    SOURCE_AGE,
    Metric,
)

SERIES_PER_REQUEST = 200
"""CreateTimeSeriesRequest.time_series."""
TIMEOUT_S = 10.0
LOOK_BACK_S = 300
"""Pub/Sub's metric is sampled each minute and readable up to two minutes later, and it may have gaps."""
OWN_LOOK_BACK_S = 3600

NO_LABELS: Mapping[str, str] = MappingProxyType({})


class WriteRefused(Exception):
    """Raised when points were not written: `count` of them. `partly`: the others were, `signal`: its point was."""

    def __init__(self, count: int, why: str, *, partly: bool = False, signal: bool = False) -> None:
        super().__init__(why)
        self.count = count
        self.partly = partly
        self.signal = signal


def connect_client(host: str) -> Any:
    """Google's client: of a local server at `host:port`, else of Google. Raises SettingsError without credentials."""
    transport = MetricServiceGrpcTransport(channel=grpc.insecure_channel(host)) if host else None
    try:
        return MetricServiceClient(transport=transport)
    except DefaultCredentialsError as error:
        raise SettingsError(
            "no credentials for Google's Cloud Monitoring: set GOOGLE_APPLICATION_CREDENTIALS to a key file, or "
            "run `gcloud auth application-default login`; for a local one set LOWTIDE_MONITORING_HOST"
        ) from error


class Monitoring:
    """Of one project and one fleet. From one thread."""

    def __init__(self, settings: Settings, *, client: Any = None, clock: Callable[[], float] = time.time) -> None:
        """`client`: a MetricServiceClient, else one by the settings. Raises SettingsError without a project or Google
        credentials.
        """
        self._name = f"projects/{settings.require_project()}"
        self._fleet = settings.fleet
        self._signal = own_signal(settings)
        self._subscriptions = [settings.subscription_path(name).split("/") for name in settings.subscription]
        self._clock = clock
        self._client = client or connect_client(settings.monitoring_host)

    def close(self) -> None:
        """Let the connection go."""
        self._client.transport.close()

    def describe(self) -> None:
        """Create or update the descriptors of all our metrics. Raises WriteRefused: of one that the service refuses,
        after the others were tried; at once when it does not answer.
        """
        refused: list[str] = []
        for metric in METRICS:
            descriptor = metric_pb2.MetricDescriptor(
                type=metric.type,
                metric_kind="GAUGE",
                value_type="DOUBLE",
                unit=metric.unit,
                description=metric.description,
                display_name=metric.display_name,
                labels=[{"key": key} for key in (FLEET, *metric.labels)],
            )
            try:
                self._client.create_metric_descriptor(name=self._name, metric_descriptor=descriptor, timeout=TIMEOUT_S)
            except ClientError as error:  # an answer, and quick: a metric of this name that is of another kind, a quota
                refused.append(f"{metric.type}: {error}")
            except (GoogleAPICallError, RetryError) as error:
                refused.append(f"{metric.type}: {error}")
                break
        if refused:
            more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
            raise WriteRefused(0, f"the descriptor of {refused[0]}{more}")

    def write(self, samples: Iterable[Sample], *, at_s: float) -> None:
        """Write each as a point of `at_s` (seconds since 1970). Raises WriteRefused when some or all were not.

        The signal goes in a call of its own: the service tells how many points of a call it refused, not which.
        """
        signal: list[Any] = []
        others: list[Any] = []
        for sample in samples:
            of = signal if sample.metric is GPU_SECONDS_OUTSTANDING else others
            of.append(self._series(sample, at_s))
        parts = [signal, *(others[at : at + SERIES_PER_REQUEST] for at in range(0, len(others), SERIES_PER_REQUEST))]
        refused, why, signal_written = 0, "", bool(signal)
        for part in filter(None, parts):
            try:
                self._client.create_time_series(name=self._name, time_series=part, timeout=TIMEOUT_S)
            except (GoogleAPICallError, RetryError) as error:
                refused += _refused(error, of=len(part))
                why = str(error)
                signal_written = signal_written and part is not signal
        if why:
            raise WriteRefused(refused, why, partly=refused < len(signal) + len(others), signal=signal_written)

    def series(self, query: str, *, back_s: int, ahead_s: int = 0) -> list[list[SignalPoint]]:
        """The series that a filter selects, each with the points of so many seconds back and ahead, oldest first.

        Raises SourceUnreadable.
        """
        return [
            [SignalPoint(at=_at(point), value=_value(point)) for point in reversed(series.points)]
            for series in self._list(query, back_s=back_s, ahead_s=ahead_s)
        ]

    def newest_at(self) -> float | None:
        """Time of the newest point of the fleet's signal, seconds since 1970; None without any of the last hour.

        Raises SourceUnreadable.
        """
        newest = self._newest(GPU_SECONDS_OUTSTANDING)
        return None if newest is None else newest.at

    def pubsub_requests(self) -> Undelivered | None:
        """What was last written of Pub/Sub's count, by whichever exporter; None without any of the last hour.

        `age_s` is that of the point, and what was written then of the count's own. Raises SourceUnreadable.
        """
        count = self._newest(PUBSUB_REQUESTS)
        if count is None:
            return None
        seen, age = self._seen([count]), self._newest(SOURCE_AGE, {SOURCE: PUBSUB})
        return seen if age is None else replace(seen, age_s=seen.age_s + age.value)

    def _newest(self, metric: Metric, labels: Mapping[str, str] = NO_LABELS) -> SignalPoint | None:
        query = replace(self._signal, metric=metric.type).query
        query += "".join(f' AND metric.labels.{key} = "{value}"' for key, value in labels.items())
        # A clock that was ahead has written into the future, which the service allows for five minutes.
        found = self.series(query, back_s=OWN_LOOK_BACK_S, ahead_s=300)
        return max((points[-1] for points in found), key=lambda point: point.at, default=None)

    def undelivered(self) -> Undelivered:
        """Messages of the fleet's subscriptions that nobody has acknowledged; none without a subscription. Raises
        SourceUnreadable, also when the metric has no recent point of one of them.
        """
        points = [point for _, project, _, name in self._subscriptions for point in self._undelivered(project, name)]
        return self._seen(points)

    def _undelivered(self, project: str, name: str) -> list[SignalPoint]:
        found = self._list(
            f'metric.type = "{PUBSUB_UNDELIVERED}" AND resource.type = "pubsub_subscription" '
            f'AND resource.labels.project_id = "{project}" AND resource.labels.subscription_id = "{name}"',
            back_s=LOOK_BACK_S,
            of=f"projects/{project}",
        )
        if not found:
            raise SourceUnreadable(f"{PUBSUB_UNDELIVERED} has no point of the last {LOOK_BACK_S} s for {name}")
        return [SignalPoint(at=_at(series.points[0]), value=_value(series.points[0])) for series in found]

    def _seen(self, points: Sequence[SignalPoint]) -> Undelivered:
        now_s = self._clock()
        age_s = now_s - min((point.at for point in points), default=now_s)
        return Undelivered(messages=int(sum(point.value for point in points)), age_s=max(0.0, age_s))

    def _list(self, query: str, *, back_s: int, ahead_s: int = 0, of: str | None = None) -> Sequence[Any]:
        now_s = int(self._clock())
        interval = {"start_time": {"seconds": now_s - back_s}, "end_time": {"seconds": now_s + ahead_s}}
        request = {"name": of or self._name, "filter": query, "interval": interval}
        try:
            return list(self._client.list_time_series(request=request, timeout=TIMEOUT_S, retry=None))
        except (GoogleAPICallError, RetryError) as error:
            raise SourceUnreadable(str(error)) from error

    def _series(self, sample: Sample, at_s: float) -> Any:
        project = self._name.removeprefix("projects/")
        series = types.TimeSeries.pb()()
        series.metric.type = sample.metric.type
        series.metric.labels.update({FLEET: self._fleet, **sample.labels})
        series.resource.type = "global"
        series.resource.labels["project_id"] = project
        point = series.points.add()
        point.interval.end_time.FromMilliseconds(round(at_s * 1000))
        point.value.double_value = sample.value
        return types.TimeSeries.wrap(series)


def _refused(error: GoogleAPICallError | RetryError, *, of: int) -> int:
    """How many points: as the error's summary says, or else all."""
    summary = types.CreateTimeSeriesSummary.pb()()
    for detail in getattr(error, "details", ()):
        if isinstance(detail, any_pb2.Any) and detail.Unpack(summary):
            return int(summary.total_point_count - summary.success_point_count)
    return of


def _value(point: Any) -> float:
    """Ours are doubles, Pub/Sub's are integers."""
    value = point.value
    return float(value.int64_value if "int64_value" in value else value.double_value)


def _at(point: Any) -> float:
    at: float = point.interval.end_time.timestamp()
    return at
