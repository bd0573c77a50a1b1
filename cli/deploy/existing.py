"""What the project has already of what terraform makes."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from lowtide.cli.checks.findings import Finding, failed, ok
from lowtide.cli.deploy.apis import GoogleApis
from lowtide.cli.deploy.terraform import ROOT
from lowtide.cli.terminal import counted
from lowtide.config.metrics import CUSTOM_PREFIX


def descriptors(apis: GoogleApis, project: str, wanted: Collection[str]) -> Iterator[Finding]:
    """Whether metrics are described already, and as we write them. `wanted`: their types."""
    what = "Metrics"
    pages = apis.pages(
        "monitoring",
        f"v3/projects/{project}/metricDescriptors",
        filter=f'metric.type = starts_with("{CUSTOM_PREFIX}")',
    )
    found = {one["type"]: one for page in pages for one in page.get("metricDescriptors", ()) if one["type"] in wanted}
    others = [name for name, one in found.items() if (one["metricKind"], one["valueType"]) != ("GAUGE", "DOUBLE")]
    for name in others:
        yield failed(
            what,
            f"{name} is there as {found[name]['metricKind']} of {found[name]['valueType']}; ours is a GAUGE of DOUBLE",
            f"delete it: projects.metricDescriptors.delete of projects/{project}/metricDescriptors/{name}",
        )
    if not found:
        yield ok(what, "not described yet: terraform does it; where apply then says 404, plan and apply again")
    elif not others:
        yield ok(what, f"{len(found)} of {len(wanted)} are described already")


def pubsub(apis: GoogleApis, project: str, wanted: Mapping[str, Any], *, made: Collection[str]) -> Iterator[Finding]:
    """Topics and subscriptions that are there and that terraform does not know: it would fail to make them. `made`: the
    addresses of what it knows.
    """
    what, names = "Pub/Sub", {"topic": wanted["topics"], "subscription": wanted["subscriptions"]}
    there = {
        f'google_pubsub_{kind}.{kind}["{name}"]': f"projects/{project}/{kind}s/{name}"
        for kind in names
        for name in names[kind]
        if apis.get("pubsub", f"v1/projects/{project}/{kind}s/{name}") is not None
    }
    unknown = {address: path for address, path in there.items() if address not in made}
    for address, path in unknown.items():
        yield failed(
            what,
            f"{path} is there already, and not made by this terraform, which would fail to make it",
            f"take it over: terraform -chdir={ROOT} import '{address}' {path}; or let the settings name another",
        )
    if not there:
        yield ok(
            what, "nothing of that name is there: terraform makes it" if any(names.values()) else "none is asked for"
        )
    elif not unknown:
        yield ok(
            what,
            f"{counted(len(there), 'topic or subscription')} as terraform made them: `lowtide doctor` looks at them",
        )
