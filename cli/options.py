"""What several commands take."""

import json
from collections.abc import Iterable
from typing import Any

import click


def examples(*lines: str) -> str:
    """The end of a command's help: lines to copy, as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def parse_params(pairs: Iterable[str]) -> dict[str, Any]:
    """`name=value` pairs; a value that is JSON is that, else a string. Raises click's UsageError."""
    params: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not (name and sign):
            raise click.UsageError(f"--param {pair}: expected NAME=VALUE")
        try:
            params[name] = json.loads(value)
        except json.JSONDecodeError:
            params[name] = value
    return params
