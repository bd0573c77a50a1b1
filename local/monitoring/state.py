"""`MonitoringState`: descriptors and series of all projects. Told the time; not safe for several threads at once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lowtide.config.metrics import PUBSUB_UNDELIVERED
from lowtide.local.errors import InvalidArgument, NotFound
from lowtide.local.monitoring import rules
from lowtide.local.monitoring.filters import Filter
from lowtide.local.monitoring.series import Descriptor, Identity, Point, TimeSeries, Write

UNDELIVERED = Descriptor(
    type=PUBSUB_UNDELIVERED,
    kind="GAUGE",
    value_type="INT64",
    unit="1",
    description="Number of unacknowledged messages in a subscription.",
)


class MonitoringState:
    """Every method takes the name of a project without `projects/`, and where it matters seconds since 1970."""

    def __init__(self) -> None:
        self._descriptors: dict[str, dict[str, Descriptor]] = {}
        self._series: dict[str, dict[Identity, TimeSeries]] = {}

    def create_descriptor(self, project: str, descriptor: Descriptor) -> Descriptor:
        """Create it, or update what may change: the text, and more labels. Raises InvalidArgument."""
        rules.check_descriptor(descriptor)
        known = self._descriptors.setdefault(project, {})
        old = known.get(descriptor.type)
        if old and (old.kind, old.value_type) != (descriptor.kind, descriptor.value_type):
            raise InvalidArgument(f"The kind and value type of {descriptor.type} cannot be changed: delete it first")
        known[descriptor.type] = replace(descriptor, labels={**(old.labels if old else {}), **descriptor.labels})
        return known[descriptor.type]

    def descriptor(self, project: str, metric_type: str) -> Descriptor:
        """Raises NotFound."""
        found = {UNDELIVERED.type: UNDELIVERED, **self._descriptors.get(project, {})}.get(metric_type)
        if found is None:
            raise NotFound(f"Could not find descriptor for metric '{metric_type}'.")
        return found

    def descriptors(self, project: str) -> list[Descriptor]:
        """By type."""
        known = {UNDELIVERED.type: UNDELIVERED, **self._descriptors.get(project, {})}
        return [known[metric_type] for metric_type in sorted(known)]

    def delete_descriptor(self, project: str, metric_type: str) -> None:
        """With its series. Raises NotFound."""
        if self._descriptors.get(project, {}).pop(metric_type, None) is None:
            raise NotFound(f"Could not find descriptor for metric '{metric_type}'.")
        kept = self._series.get(project, {})
        self._series[project] = {one: kept[one] for one in kept if one.metric_type != metric_type}

    def write(self, project: str, writes: Sequence[Write], *, now_s: float) -> list[tuple[int, str]]:
        """Store the points. Those that break a rule are left out and told of: place in the request, and why.

        Raises InvalidArgument when the request as a whole breaks one; then nothing is stored.
        """
        if not writes:
            raise InvalidArgument("Request was missing field timeSeries.")
        if len(writes) > rules.SERIES_PER_REQUEST:
            raise InvalidArgument(f"A request has at most {rules.SERIES_PER_REQUEST} time series, not {len(writes)}")
        if len({write.identity for write in writes}) < len(writes):
            raise InvalidArgument("Duplicate TimeSeries encountered. Only one point can be written per TimeSeries.")
        refused = []
        for place, write in enumerate(writes):
            try:
                self._write(project, write, now_s=now_s)
            except InvalidArgument as error:
                refused.append((place, str(error)))
        return refused

    def sample(self, undelivered: Mapping[str, int], *, now_s: float) -> None:
        """Give Pub/Sub's own metric a point of each subscription, by its full name. After a clock was set back: none
        until it is past the newest point.
        """
        for subscription, count in undelivered.items():
            _, project, _, name = subscription.split("/")
            identity = Identity(
                metric_type=UNDELIVERED.type,
                resource_type="pubsub_subscription",
                resource_labels=(("project_id", project), ("subscription_id", name)),
            )
            series = self._series.setdefault(project, {}).setdefault(
                identity, TimeSeries(identity=identity, kind=UNDELIVERED.kind, value_type=UNDELIVERED.value_type)
            )
            if not series.points or series.points[-1].end_s < now_s:
                series.points.append(Point(start_s=now_s, end_s=now_s, value=count))

    def read(self, project: str, wanted: Filter, *, start_s: float | None, end_s: float) -> list[TimeSeries]:
        """What the filter selects, with the points in (start, end], newest first; without a start, the one at the end.

        Series without such a point are left out.
        """
        found = []
        for series in self._series.get(project, {}).values():
            if not series.identity.matches(wanted):
                continue
            points = [point for point in reversed(series.points) if _within(point.end_s, start_s, end_s)]
            if points:
                found.append(TimeSeries(identity=series.identity, kind=series.kind, value_type=series.value_type))
                found[-1].points.extend(points)
        return found

    def _write(self, project: str, write: Write, *, now_s: float) -> None:
        descriptors = self._descriptors.setdefault(project, {})
        metric_type = write.identity.metric_type
        descriptor = descriptors.get(metric_type)
        kind = write.kind or (descriptor.kind if descriptor else "GAUGE")
        rules.check_write(write, kind=kind, descriptor=descriptor, now_s=now_s)
        series = self._series.setdefault(project, {}).get(write.identity) or TimeSeries(
            identity=write.identity, kind=kind, value_type=write.value_type
        )
        rules.check_order(write, series)
        if descriptor is None:  # the service makes one of what the first point says
            labels = dict.fromkeys((key for key, _ in write.identity.metric_labels), "")
            made = Descriptor(type=metric_type, kind=kind, value_type=write.value_type, labels=labels)
            rules.check_descriptor(made)
            descriptors[metric_type] = made
        series.points.append(write.point)
        self._series[project][write.identity] = series


def _within(at_s: float, start_s: float | None, end_s: float) -> bool:
    return at_s == end_s if start_s is None or start_s == end_s else start_s < at_s <= end_s
