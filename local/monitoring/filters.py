"""The filters that an instance group's policy may hold: `=` alone, joined by AND, values in double quotes.

Source: https://cloud.google.com/compute/docs/autoscaler/scaling-cloud-monitoring-metrics. That one metric type must be
named is a rule of ListTimeSeriesRequest.filter (google/monitoring/v3/metric_service.proto).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lowtide.local.errors import InvalidArgument

_TERM = re.compile(r'\s*(metric|resource)\.(?:(type)|labels?\.([A-Za-z][A-Za-z0-9_]*))\s*=\s*"([^"\\]*)"\s*')
_AND = re.compile(r"AND(?=\s)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which time series are wanted. `resource_type` None: any."""

    metric_type: str
    resource_type: str | None = None
    metric_labels: Mapping[str, str] = field(default_factory=dict)
    resource_labels: Mapping[str, str] = field(default_factory=dict)


def parse(text: str) -> Filter:
    """Raises InvalidArgument that quotes what is not understood."""
    terms: dict[tuple[str, str | None], str] = {}
    position = 0
    while True:
        match = _TERM.match(text, position)
        if match is None:
            raise InvalidArgument(f'Invalid filter at {text[position:]!r}: expected <selector> = "…", joined by AND')
        key = (match[1], match[3])
        if key in terms:
            raise InvalidArgument(f"Invalid filter: {match[0].strip()} says again what another term says")
        terms[key] = match[4]
        position = match.end()
        if position == len(text):
            return _filter(terms)
        joint = _AND.match(text, position)
        if joint is None:
            raise InvalidArgument(f"Invalid filter at {text[position:]!r}: expected AND")
        position = joint.end()


def _filter(terms: Mapping[tuple[str, str | None], str]) -> Filter:
    metric_type = terms.get(("metric", None))
    if not metric_type:
        raise InvalidArgument("Invalid filter: it must name a single metric.type")
    return Filter(
        metric_type=metric_type,
        resource_type=terms.get(("resource", None)),
        metric_labels=_labels(terms, "metric"),
        resource_labels=_labels(terms, "resource"),
    )


def _labels(terms: Mapping[tuple[str, str | None], str], of: str) -> dict[str, str]:
    return {label: value for (whose, label), value in terms.items() if whose == of and label is not None}
