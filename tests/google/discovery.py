"""What Google's discovery documents say of calls and answers: paths, parameters, fields, enums."""

import gzip
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

FILE = Path(__file__).with_name("discovery.json.gz")


def documents() -> dict[str, Any]:
    """`services`, each with `methods` and `schemas`; whose they are: `origin`."""
    return json.loads(gzip.decompress(FILE.read_bytes()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method of one API. Raises AssertionError, or jsonschema's ValidationError, on what does not fit."""

    id: str
    parameters: frozenset[str]
    request: str | None
    response: str
    schemas: dict[str, Any]

    def check_query(self, names: Iterable[str]) -> None:
        unknown = set(names) - self.parameters
        assert not unknown, f"{self.id} has no parameter {', '.join(sorted(unknown))}"

    def check_request(self, body: Any) -> None:
        assert (body is None) == (self.request is None), f"{self.id}: a body of {self.request}"
        if self.request:
            self._check(self.request, body)

    def check_response(self, body: Any) -> None:
        self._check(self.response, body)

    def _check(self, schema: str, body: Any) -> None:
        jsonschema.validate(body, {"$ref": f"#/$defs/{schema}", "$defs": self.schemas})


class Discovery:
    """All methods that are known."""

    def __init__(self) -> None:
        self._services = documents()["services"]
        self._schemas = {
            name: {ref: _strict(schema) for ref, schema in service["schemas"].items()}
            for name, service in self._services.items()
        }

    def method(self, service: str, verb: str, path: str) -> Method:
        """The one that answers there. Raises AssertionError without one."""
        api = self._services.get(service, {"methods": {}})
        for name, method in api["methods"].items():
            if method["httpMethod"] == verb and re.fullmatch(_pattern(api["prefix"] + method["flatPath"]), path):
                return Method(
                    id=name,
                    parameters=frozenset(
                        {name for name, one in method["parameters"].items() if one["location"] == "query"}
                        | set(api["parameters"])
                    ),
                    request=method.get("request", {}).get("$ref"),
                    response=method["response"]["$ref"],
                    schemas=self._schemas[service],
                )
        raise AssertionError(f"{service} has no {verb} {path}, or it is missing in tests/google/renew.py")

    def enum(self, service: str, schema: str, field: str) -> set[str]:
        """The values that a field may have."""
        return set(self._services[service]["schemas"][schema]["properties"][field]["enum"])


def _pattern(path: str) -> str:
    """A template's, whose variables are segments. The name of a metric has slashes, and no such one is asked for."""
    return "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", path))


def _strict(schema: Any) -> Any:
    """As JSON Schema, in which a field that is not named is an error."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(value) for name, value in schema.items() if name not in ("id", "format")}
    if isinstance(schema.get("$ref"), str):
        return {"$ref": f"#/$defs/{schema['$ref']}"}
    if strict.get("type") == "any":
        return {}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        strict.setdefault("additionalProperties", False)
        # Names of fields are no keywords.
        strict["properties"] = {name: _strict(value) for name, value in schema["properties"].items()}
    return strict
