"""The types of settings that are more than a number or a word: how the environment writes them, what they may be."""

import ipaddress
import json
import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

from lowtide.config.fleet_schedule import FleetSchedule


def as_text(value: Any) -> str:
    """A setting as the environment writes it; reading that gives `value` again."""
    if isinstance(value, tuple) and any(isinstance(entry, FleetSchedule) for entry in value):
        return json.dumps([entry.model_dump() for entry in value])
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, dict):
        return ",".join(f"{name}={text}" for name, text in value.items())
    return str(value)


def _names(value: object) -> object:
    return _parts(value) if isinstance(value, str) else value


def _pairs(value: object) -> object:
    if isinstance(value, str):
        pairs = [part.partition("=") for part in _parts(value)]
        if any(not (name and sign and text) for name, sign, text in pairs):
            raise ValueError("expected name=URI, comma-separated")
        return {name: text for name, _, text in pairs}
    return value


def _parts(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _schedules(value: object) -> object:
    if isinstance(value, str):
        try:
            return json.loads(value or "[]")
        except ValueError as error:
            raise ValueError(f"expected a JSON array of objects: {error}") from error
    return value


def _logins(value: tuple[str, ...]) -> tuple[str, ...]:
    if any(":" not in entry or not entry.isascii() for entry in value):
        # Not quoted: it holds the password.
        raise ValueError("expected user:password, comma-separated; Flower compares ASCII characters alone")
    return value


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for entry in value:
        try:
            ipaddress.ip_network(entry)
        except ValueError as error:
            raise ValueError(f"{error}: expected a network such as 10.0.0.0/8") from error
    return value


def _subscriptions(value: tuple[str, ...]) -> tuple[str, ...]:
    for entry in value:
        if not re.fullmatch(r"[^/]+|projects/[^/]+/subscriptions/[^/]+", entry):
            raise ValueError(f"expected a subscription's name, or projects/PROJECT/subscriptions/NAME: {entry!r}")
    return value


def _redis_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        fine = parts.scheme in ("redis", "rediss") and bool(parts.hostname) and parts.port != 0
        fine = fine and not re.search(r"[\s'\"<>]", value)
    except ValueError:
        fine = False
    if not fine:
        # Not quoted: it holds the password.
        raise ValueError(
            "expected redis://[user:password@]host[:port][/db], or rediss:// for TLS; percent-encode what is no "
            "letter or digit in the password"
        )
    return value


def _flower_url(value: str) -> str:
    if value and not re.fullmatch(r"https?://[^\s/@?#'\"<>]+(/[^\s@?#'\"<>]*)?", value):
        # Not quoted: it may hold a password.
        raise ValueError("expected http://host:port or https://host:port; a login goes into LOWTIDE_FLOWER_BASIC_AUTH")
    return value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]
"""A comma-separated list in the environment, an array in the file."""

Subscriptions = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names), AfterValidator(_subscriptions)]
"""Names, each of them with or without its project."""

Logins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names), AfterValidator(_logins)]
"""Pairs of `user:password`, in ASCII."""

Networks = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names), AfterValidator(_networks)]
"""Names, each of them a CIDR."""

Pairs = Annotated[dict[str, str], NoDecode, BeforeValidator(_pairs)]
"""Comma-separated `name=value` pairs in the environment, a table in the file."""

Schedules = Annotated[tuple[FleetSchedule, ...], NoDecode, BeforeValidator(_schedules)]
"""A JSON array of objects in the environment, an array of tables in the file."""

RedisUrl = Annotated[str, AfterValidator(_redis_url)]
"""`redis://` or `rediss://`, with a host."""

FlowerUrl = Annotated[str, AfterValidator(_flower_url)]
"""`http://` or `https://` with neither login nor query, or nothing."""
