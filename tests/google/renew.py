"""Writes discovery.json.gz, what Google's discovery documents say of the methods that `lowtide deploy check` calls.

    python -m tests.google.renew [WHEEL]

Without a wheel, pip downloads the one of `ORIGIN`: 17 MB.
"""

import gzip
import json
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.wheels import downloaded_wheel

ORIGIN = "google-api-python-client==2.202.0"
"""On PyPI: it has Google's discovery documents in it."""
FILE = Path(__file__).with_name("discovery.json.gz")
USED = {
    "artifactregistry.v1": {
        "artifactregistry.projects.locations.repositories.get",
        "artifactregistry.projects.locations.repositories.packages.tags.get",
    },
    "cloudresourcemanager.v3": {"cloudresourcemanager.projects.testIamPermissions"},
    "compute.v1": {
        "compute.images.get",
        "compute.images.getFromFamily",
        "compute.machineTypes.aggregatedList",
        "compute.projects.get",
        "compute.regions.get",
    },
    "monitoring.v3": {"monitoring.projects.metricDescriptors.list"},
    "pubsub.v1": {"pubsub.projects.subscriptions.get", "pubsub.projects.topics.get"},
    "secretmanager.v1": {"secretmanager.projects.secrets.versions.get"},
    "serviceusage.v1": {"serviceusage.services.batchGet"},
}
"""Methods by document."""


def reduced(wheel: Path) -> dict[str, Any]:
    """Of each service its revision, the methods of `USED` and the schemas that they lead to, without descriptions."""
    with zipfile.ZipFile(wheel) as archive:
        return {"origin": ORIGIN, "services": {name.partition(".")[0]: _service(archive, name) for name in USED}}


def _service(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    document = json.loads(archive.read(f"googleapiclient/discovery_cache/documents/{name}.json"))
    methods = {one["id"]: one for one in _methods(document) if one["id"] in USED[name]}
    assert methods.keys() == USED[name]
    schemas: dict[str, Any] = {}
    wanted = [ref for method in methods.values() for ref in _refs(method)]
    while wanted:
        if (ref := wanted.pop()) not in schemas:
            schemas[ref] = _bare(document["schemas"][ref])
            wanted += _refs(schemas[ref])
    return {
        "revision": document["revision"],
        "prefix": document["servicePath"],
        "parameters": sorted(document["parameters"]),
        "methods": {name: _bare(method) for name, method in methods.items()},
        "schemas": schemas,
    }


def _methods(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from part.get("methods", {}).values()
    for resource in part.get("resources", {}).values():
        yield from _methods(resource)


def _refs(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from _refs(value)


def _bare(part: Any) -> Any:
    """Without what is for people. A field may be called description, too: it is an object."""
    if not isinstance(part, dict):
        return part
    return {
        name: _bare(value)
        for name, value in part.items()
        if name not in ("description", "enumDescriptions", "enumDeprecated") or isinstance(value, dict)
    }


def written(document: dict[str, Any]) -> bytes:
    """The file: the same bytes for the same documents."""
    return gzip.compress(json.dumps(document, sort_keys=True, separators=(",", ":")).encode(), mtime=0)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(sys.argv[1]) if len(sys.argv) > 1 else downloaded_wheel(ORIGIN, Path(folder))
        FILE.write_bytes(written(reduced(wheel)))
    print(f"{FILE.name}: {sum(map(len, USED.values()))} methods, {FILE.stat().st_size} bytes")  # noqa: T201 (a command)


if __name__ == "__main__":
    main()
