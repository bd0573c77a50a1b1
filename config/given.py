"""What is given: the variables of the environment, and the file that LOWTIDE_CONFIG names, by setting.

Neither is looked at here further than to be read: text from outside may be anything.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from lowtide.config.text import cleaned, marked_encoding

ENV_PREFIX = "LOWTIDE_"
CONFIG = f"{ENV_PREFIX}CONFIG"

_LINK = re.compile(r"(tcp|udp|sctp)://.*", re.IGNORECASE)
_LINKING = re.compile(r"_PORT(_\d+_(TCP|UDP|SCTP))?$")
_LINKED = re.compile(
    r"_SERVICE_HOST|_SERVICE_PORT(_\w+)?|_PORT(_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?|_NAME|_ENV_\w+"
)


class Unreadable(Exception):
    """Raised when LOWTIDE_CONFIG names what can't be read. The message names file, line and cause."""


def from_environment(settings: Collection[str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Setting → text, of the variables that are settings, in capitals or not, and not a Service's."""
    names = {f"{ENV_PREFIX}{name}".lower(): name for name in settings}
    found = {names[key.lower()]: value for key, value in environ.items() if key.lower() in names}
    return {name: value for name, value in found.items() if not (name.endswith("_port") and is_link(value))}


def is_link(value: str) -> bool:
    """Whether the value is what Kubernetes, or a container link, writes into `<NAME>_PORT` for a Service."""
    return bool(_LINK.fullmatch(cleaned(value)))


def services(environ: Mapping[str, str] = os.environ) -> Iterator[tuple[str, str]]:
    """The variables that Kubernetes, or a container link, makes of Services whose names begin like ours, each with the
    Service's name.
    """
    ours = {key: value for key, value in environ.items() if key.startswith(ENV_PREFIX)}
    links = {_LINKING.sub("", key) for key, value in ours.items() if is_link(value) and _LINKING.search(key)}
    for key in sorted(ours):
        of = [link for link in links if key.startswith(link) and _LINKED.fullmatch(key.removeprefix(link))]
        if of and (is_link(ours[key]) or f"{max(of, key=len)}_PORT" != key):  # else somebody set it himself
            yield key, max(of, key=len).lower().replace("_", "-")


def from_file(path: str, settings: Collection[str]) -> dict[str, Any]:
    """Setting → value, of a TOML file. Raises Unreadable."""
    try:
        content = Path(path).read_bytes()
    except IsADirectoryError:
        raise Unreadable(f"{path} is a folder: name a TOML file") from None
    except FileNotFoundError:
        raise Unreadable(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        # A line may end with a carriage return alone nowhere in TOML; with both is what Windows writes.
        found = tomllib.loads(_text(path, content))
    except tomllib.TOMLDecodeError as error:
        raise Unreadable(f"{path} is not TOML: {error}{_hint(error)}") from error
    for key in found:
        if key not in settings:
            raise Unreadable(f"{path}: {key} is no setting{_near(key, settings)}")
    return found


def _text(path: str, content: bytes) -> str:
    encoding = marked_encoding(content) or "utf-8"
    if encoding == "utf-8" and b"\0" in content:
        raise Unreadable(f"{path}: not UTF-8: it seems to be UTF-16 without a byte order mark")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Unreadable(
            f"{path}, line {line}: not {encoding.removesuffix('-sig').upper()}: save it as UTF-8"
        ) from error


def _hint(error: tomllib.TOMLDecodeError) -> str:
    """`NAME=value` of a file of variables is where most of these come from."""
    return '; texts stand in quotation marks, as in project = "my-project"' if "nvalid value" in str(error) else ""


def _near(key: str, settings: Collection[str]) -> str:
    plain = key.lower().removeprefix(ENV_PREFIX.lower())
    close = [plain] if plain in settings else difflib.get_close_matches(plain, settings, n=1)
    return f": did you mean {close[0]}?" if close else ": docs/settings.md lists them all"
