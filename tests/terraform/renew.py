"""Writes schema.json.gz, the part of the Google provider's schema that deploy/terraform uses.

    python -m tests.terraform.renew [WHEEL]

Without a wheel, pip downloads the one of `ORIGIN`: 67 MB. Its licence is the provider's, MPL-2.0.
"""

import gzip
import io
import json
import re
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.terraform.bindings import Bindings, Found
from tests.wheels import downloaded_wheel

ORIGIN = "cdktn-provider-google==21.1.0"
"""On PyPI: CDK Terrain's bindings, made from provider 8.7.0."""
ROOT = Path(__file__).resolve().parents[2]
USED_IN = ROOT / "deploy" / "terraform"
FILE = Path(__file__).with_name("schema.json.gz")


def schema_of(wheel: Path) -> dict[str, Any]:
    """Provider, resources and data sources that the files of `USED_IN` name."""
    code = "\n".join(file.read_text() for file in USED_IN.glob("*.tf"))
    resources, data = (set(re.findall(rf'^{word} "(google_\w+)"', code, re.MULTILINE)) for word in ("resource", "data"))
    schema: dict[str, Any] = {"origin": ORIGIN, "resource_schemas": {}, "data_source_schemas": {}}
    for text, found in _bindings(wheel, resources | data):
        if found.kind == "TerraformProvider":
            [version] = set(re.findall(r"providerVersion: '([^']+)'", text))
            schema |= {"version": version, "provider": found.block}
        elif found.kind == "TerraformResource" and found.type in resources:
            schema["resource_schemas"][found.type] = found.block
        elif found.kind == "TerraformDataSource" and found.type in data:
            schema["data_source_schemas"][found.type] = found.block
    missing = (resources - schema["resource_schemas"].keys()) | (data - schema["data_source_schemas"].keys())
    if missing:
        sys.exit(f"{wheel.name} has no {', '.join(sorted(missing))}")
    return schema


def _bindings(wheel: Path, names: set[str]) -> Iterator[tuple[str, Found]]:
    """The JavaScript of what is called so, and of the provider, each with what it says."""
    folders = {name.removeprefix("google_").replace("_", "-") for name in names}
    wanted = {"provider", *folders, *(f"data-google-{folder}" for folder in folders)}
    with zipfile.ZipFile(wheel) as archive:
        [packed] = [name for name in archive.namelist() if name.endswith(".tgz")]
        package = io.BytesIO(archive.read(packed))
    with tarfile.open(fileobj=package, mode="r:gz") as files:
        for member in files:
            parts = Path(member.name).parts
            if parts[-1] == "index.js" and parts[-2] in wanted:
                file = files.extractfile(member)
                assert file is not None
                text = file.read().decode()
                if found := Bindings(text).found():
                    yield text, found


def written(schema: dict[str, Any]) -> bytes:
    """The file: the same bytes for the same schema."""
    return gzip.compress(json.dumps(schema, sort_keys=True, separators=(",", ":")).encode(), mtime=0)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(sys.argv[1]) if len(sys.argv) > 1 else downloaded_wheel(ORIGIN, Path(folder))
        schema = schema_of(wheel)
    FILE.write_bytes(written(schema))
    print(  # noqa: T201 (a command: what it made)
        f"{FILE.name}: provider {schema['version']}, {len(schema['resource_schemas'])} resources, "
        f"{len(schema['data_source_schemas'])} data sources, {FILE.stat().st_size} bytes"
    )


if __name__ == "__main__":
    main()
