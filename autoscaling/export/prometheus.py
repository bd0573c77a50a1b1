"""The same figures at a Prometheus endpoint."""

from collections.abc import Callable, Iterable, Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from lowtide.autoscaling.export.samples import Sample
from lowtide.config import Settings, SettingsError
from lowtide.config.addresses import at
from lowtide.config.metrics import FLEET


class Figures(Collector):
    """Collects what was exported last."""

    def __init__(self, fleet: str, samples: Callable[[], Iterable[Sample]]) -> None:
        self._fleet = fleet
        self._samples = samples

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family for each metric that has a value."""
        families: dict[str, GaugeMetricFamily] = {}
        for sample in self._samples():
            metric = sample.metric
            family = families.setdefault(
                metric.name,
                GaugeMetricFamily(metric.prometheus, metric.description, labels=(FLEET, *metric.labels)),
            )
            family.add_metric([self._fleet, *(sample.labels[label] for label in metric.labels)], sample.value)
        yield from families.values()


def serve(settings: Settings, samples: Callable[[], Iterable[Sample]]) -> WSGIServer:
    """Serve `/metrics` from a daemon thread. Raises SettingsError when the port can't be had."""
    registry = CollectorRegistry()
    registry.register(Figures(settings.fleet, samples))
    try:
        server, _ = start_http_server(settings.metrics_port, settings.metrics_address, registry)
    except OSError as error:
        where = at(settings.metrics_address, settings.metrics_port)
        raise SettingsError(f"LOWTIDE_METRICS_PORT: can't listen on {where}: {error.strerror}") from error
    return server
