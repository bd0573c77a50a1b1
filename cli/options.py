"""What several commands take."""

import json
import re
from collections.abc import Iterable
from typing import Any

import click

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Duration(click.ParamType[float]):
    """`90s`, `15m`, `2h`, `3d`, `1w`: seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds. Raises click's BadParameter."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", str(value))
        if match is None:
            self.fail(f"{value}: expected a number and one of {', '.join(UNITS_S)}, such as 2h", param, ctx)
        return float(match[1]) * UNITS_S[match[2]]


DURATION = Duration()


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
