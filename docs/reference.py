"""Writes what the docs say of the code: settings, metrics, JSON Schemas. `--check` only compares (exit code 1)."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lowtide.config import Process, Settings
from lowtide.config.metrics import METRICS
from lowtide.config.used_by import used_by
from lowtide.tasks import InferenceRequest, InferenceResult

DOCS = Path(__file__).parent

INTRODUCTION = """\
# Settings

Every setting is an environment variable. `LOWTIDE_CONFIG` names a TOML file that may hold them too, in lower case and
without the prefix (`models = ["digits"]`); the environment wins over the file. The file is UTF-8, or has a byte order
mark that says else.

Lists are comma-separated in the environment, pairs are comma-separated `name=value`. With a comma in an entry, write a
JSON array, `["/data/a,b","/data/c"]`, or a JSON object, `{"name": "value"}`: entries are then exactly what they say.

- Blanks, line ends and a pair of quotation marks around a value, as `.env` files leave them, are no part of it. Around
  a login they might be, so it is refused.
- A variable that nothing has replaced (`${HOST}`, `$(HOST)`) is refused, and so is a comment behind a value.
- An empty value is as good as none, but for lists: `LOWTIDE_SUBSCRIPTION=` means no subscription.
- A process checks the settings that it uses, when it starts, and `lowtide doctor` checks them all. `lowtide up` and
  `lowtide classify`, which start every process, use all.
- What Kubernetes writes into `LOWTIDE_FLOWER_PORT` for a Service called lowtide-flower, `tcp://10.0.0.7:5555`, is no
  setting and ignored; `enableServiceLinks: false` in the Pod's spec turns such variables off.
- Addresses of IPv6 work everywhere: alone as an address to listen on (`::1`), in brackets beside a port
  (`redis://[::1]:6379/0`).

`PUBSUB_EMULATOR_HOST` and `GOOGLE_APPLICATION_CREDENTIALS` mean what they mean to every Google client.

| variable | default | meaning | used by |
|---|---|---|---|
"""

METRICS_INTRODUCTION = """\
# Metrics

What `lowtide autoscale` writes: gauges, each labelled `fleet`. In Cloud Monitoring `<metric>` is
`custom.googleapis.com/lowtide/<metric>` on the resource `global`, for Prometheus `lowtide_<metric>`.

| metric | unit | labels | meaning |
|---|---|---|---|
"""


DEFAULTS = {
    "decode_threads": "the number of cores, at least 2",
    "decode_memory_bytes": "a quarter of the memory of the machine or container",
}
"""Of settings whose default depends on the machine."""


def settings_page() -> str:
    """The settings reference, from `Settings` itself."""
    rows = (_row(name, field) for name, field in Settings.model_fields.items())
    return INTRODUCTION + "".join(rows)


def metrics_page() -> str:
    """The metrics reference, from `METRICS`."""
    rows = (
        f"| `{metric.name}` | {metric.unit} | {', '.join(metric.labels) or '—'} | {metric.description} |\n"
        for metric in METRICS
    )
    return METRICS_INTRODUCTION + "".join(rows)


def schema(model: type[BaseModel], title: str) -> str:
    """The JSON Schema (draft 2020-12) of a message."""
    found = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(), "title": title}
    return json.dumps(found, indent=2) + "\n"


def pages() -> Iterator[tuple[Path, str]]:
    """Every generated file and what it should hold."""
    yield DOCS / "settings.md", settings_page()
    yield DOCS / "metrics.md", metrics_page()
    yield DOCS / "schemas" / "request.json", schema(InferenceRequest, "Lowtide request")
    yield DOCS / "schemas" / "result.json", schema(InferenceResult, "Lowtide result")


def main() -> int:
    """Write, or compare; the exit code."""
    stale = [path for path, text in pages() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(DOCS.parent)} is not what the code says: run `make reference`")
        return 1 if stale else 0
    for path, text in pages():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return 0


def _row(name: str, field: FieldInfo) -> str:
    return f"| `LOWTIDE_{name.upper()}` | {_default(name, field)} | {field.description} | {_users(name)} |\n"


def _users(name: str) -> str:
    users = used_by(name)
    return "all" if users == frozenset(Process) else ", ".join(sorted(users))


def _default(name: str, field: FieldInfo) -> str:
    value: Any = field.default
    if field.default_factory is not None:
        return DEFAULTS[name]
    if isinstance(value, tuple):
        value = ",".join(value)
    return f"`{value}`" if value not in (None, "", {}) else "—"


if __name__ == "__main__":
    sys.exit(main())
