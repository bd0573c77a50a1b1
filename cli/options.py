"""What several commands take."""

import json
import re
from collections.abc import Iterable
from typing import Any

import click

from lowtide.cli.terminal import shown
from lowtide.config.text import is_utf8

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Duration(click.ParamType[float]):
    """`90s`, `15m`, `2h`, `3d`, `1w`: seconds."""

    name = "duration"

    def __init__(self, *, may_be_zero: bool = True) -> None:
        self._may_be_zero = may_be_zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds. Raises click's BadParameter."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", str(value))
        if match is None:
            self.fail(f"{value}: expected a number and one of {', '.join(UNITS_S)}, such as 2h", param, ctx)
        seconds = float(match[1]) * UNITS_S[match[2]]
        if not (seconds or self._may_be_zero):
            self.fail(f"{value}: expected more than 0", param, ctx)
        return seconds


DURATION = Duration()
WAIT = Duration(may_be_zero=False)
"""A time limit, or a pause: 0 may be meant to be none or no end, and is neither."""


class Text(click.ParamType[str]):
    """Text that can be sent: a shell may hand over any bytes."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As it is. Raises click's BadParameter."""
        if not value:  # of a variable that is unset: nobody means the default by it
            self.fail("is empty: leave the option out, or give it a value", param, ctx)
        if not is_utf8(str(value)):
            self.fail("is not UTF-8", param, ctx)
        return str(value)


TEXT = Text()


from_file = click.option(
    "--from-file", type=click.File("rb"), help="More paths and URIs, one a line or as of find -print0; - for stdin."
)
params = click.option(
    "--param", "params", multiple=True, metavar="NAME=VALUE", help="Parameter for the model, e.g. top_k=1."
)
subscription = click.option(
    "--subscription", type=TEXT, help="Subscription to read. Default: the one that `lowtide bridge --create` makes."
)


def examples(*lines: str) -> str:
    """The end of a command's help: lines to copy, as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def parse_params(pairs: Iterable[str]) -> dict[str, Any]:
    """`name=value` pairs; a value that is JSON is that, else a string. Raises click's UsageError."""
    params: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not (name and sign):
            raise click.UsageError(f"--param {shown(pair)}: expected NAME=VALUE")
        if not is_utf8(pair):
            raise click.UsageError(f"--param {shown(pair)}: is not UTF-8")
        if name in params:
            raise click.UsageError(f"--param {shown(name)}: given twice")
        params[name] = _json_or_text(value)
    return params


def _json_or_text(value: str) -> Any:
    """NaN and numbers beyond a double's are no JSON."""
    try:
        given = json.loads(value)
        json.dumps(given, allow_nan=False)
    except (ValueError, RecursionError):
        return value
    return given
