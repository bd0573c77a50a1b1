"""The types of settings that are more than a number or a word: how the environment writes them, what they may be."""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SkipValidation

from lowtide.config import checked
from lowtide.config.text import QUOTES, cleaned


class FleetSchedule(BaseModel):
    """One entry of LOWTIDE_FLEET_SCHEDULES, by the names of Compute Engine's ScalingSchedule. Durations in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    min_required_replicas: int
    cron: str
    duration_s: int
    time_zone: str = "UTC"
    disabled: bool = False


def as_text(value: Any, *, joined: bool = True) -> str:
    """A setting as the environment writes it; reading that gives `value` again. Not `joined`: several are an array."""
    if value is None:
        return ""
    if isinstance(value, tuple) and any(isinstance(entry, FleetSchedule) for entry in value):
        return json.dumps([entry.model_dump() for entry in value])
    if isinstance(value, tuple):
        return ",".join(value) if _plain(value, but=",") and (joined or len(value) < 2) else json.dumps(value)
    if isinstance(value, Mapping):
        plain = _plain(value, but=",=") and _plain(value.values(), but=",")
        return ",".join(f"{name}={text}" for name, text in value.items()) if plain else json.dumps(value)
    return str(value)


def _plain(entries: Iterable[str], *, but: str) -> bool:
    """Whether all are read from a comma-separated list as they are."""
    return all(
        entry.isprintable()
        and entry == cleaned(entry) != ""
        and entry[0] not in "[{" + QUOTES
        and not set(entry) & set(but)
        for entry in entries
    )


def _names(value: object) -> object:
    if not isinstance(value, str):
        return value
    return _array(value) if value.startswith("[") else _parts(value)


def _parts(value: str) -> tuple[str, ...]:
    return tuple(part for part in map(cleaned, value.split(",")) if part)


def _array(value: str) -> tuple[str, ...]:
    """A JSON array of strings, whose entries are exactly what they are."""
    try:
        entries = json.loads(value)
    except ValueError:
        # Not quoted: it may hold passwords.
        raise ValueError('begins with [ and is no JSON array, such as ["a","b"]') from None
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ValueError('expected a JSON array of texts, such as ["a","b"]')
    return tuple(entries)


def _pairs(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.startswith("{"):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError('begins with { and is no JSON object, such as {"name": "URI"}') from None
    pairs = [part.partition("=") for part in _parts(value)]
    if any(not (name.strip() and sign and text.strip()) for name, sign, text in pairs):
        raise ValueError("expected name=URI, comma-separated; with a comma in a URI, a JSON object of names and URIs")
    return {name.strip(): cleaned(text) for name, _, text in pairs}


def _schedules(value: object) -> object:
    if isinstance(value, str):
        try:
            return json.loads(value or "[]")
        except ValueError as error:
            raise ValueError(f"expected a JSON array of objects: {error}") from error
    return value


def _logins(value: object) -> object:
    """Of the environment: one login, or a JSON array. A comma in a text may be part of a password, and so may what
    stands around it: neither is guessed at.
    """
    if not isinstance(value, str):
        return value
    bare = cleaned(value)
    if not bare or bare.startswith("["):
        return _array(bare or "[]")
    if "," in bare:
        raise ValueError(
            "expected user:password, and a comma may be part of it or not: write a JSON array, "
            '["user:password"] or ["user:password","other:password"]'
        )
    if bare != value:
        raise ValueError(
            "expected user:password, and there are blanks, quotation marks or a line end around it: take them away, or "
            'write a JSON array, ["user:password"], if they are part of it'
        )
    return (value,)


Models = Annotated[tuple[str, ...], BeforeValidator(_names), AfterValidator(checked.models)]
"""A comma-separated list or a JSON array in the environment, an array in the file."""

Folders = Annotated[tuple[SkipValidation[str], ...], BeforeValidator(_names), AfterValidator(checked.folders)]
"""Names, each of them a folder. Not validated as text: what is no UTF-8 in a folder's name is a lone surrogate."""

Hosts = Annotated[tuple[str, ...], BeforeValidator(_names), AfterValidator(checked.hosts)]
"""Names, each of them a host's, or `*.` and the end of one."""

Buckets = Annotated[tuple[str, ...], BeforeValidator(_names), AfterValidator(checked.buckets)]
"""Names, each of them a bucket's."""

Subscriptions = Annotated[tuple[str, ...], BeforeValidator(_names), AfterValidator(checked.subscriptions)]
"""Names, each of them with or without its project."""

Topic = Annotated[str, AfterValidator(checked.topic)]
"""A name, with or without its project."""

Topics = Annotated[tuple[Topic, ...], BeforeValidator(_names)]
"""Names, each of them with or without its project."""

Logins = Annotated[tuple[str, ...], BeforeValidator(_logins), AfterValidator(checked.logins)]
"""Pairs of `user:password`, in ASCII: one, or a JSON array, in the environment; an array in the file."""

Networks = Annotated[tuple[str, ...], BeforeValidator(_names), AfterValidator(checked.networks)]
"""Names, each of them a CIDR."""

Pairs = Annotated[dict[str, str], BeforeValidator(_pairs)]
"""Comma-separated `name=value` pairs or a JSON object in the environment, a table in the file."""

Schedules = Annotated[tuple[FleetSchedule, ...], BeforeValidator(_schedules)]
"""A JSON array of objects in the environment, an array of tables in the file."""

RedisUrl = Annotated[str, AfterValidator(checked.redis_url)]
"""`redis://` or `rediss://`, with a host."""

Prefix = Annotated[str, AfterValidator(checked.prefix)]
"""What keys begin with, and channels, which are subscribed to as patterns."""

WebUrl = Annotated[str, AfterValidator(checked.web_url)]
"""`http://` or `https://` with neither login nor query, or nothing."""

MetadataUrl = Annotated[str, AfterValidator(checked.metadata_url)]
"""The same, or `none`."""

HostPort = Annotated[str, AfterValidator(checked.host_and_port)]
"""`host:port`, or nothing."""

ListenAddress = Annotated[str, AfterValidator(checked.listen_address)]
"""What a server binds: an address or a host's name."""

ProjectId = Annotated[str, AfterValidator(checked.project)]
"""Of Google Cloud."""

FleetName = Annotated[str, AfterValidator(checked.fleet)]
"""A label of metrics."""

LogLevel = Annotated[str, AfterValidator(checked.log_level)]
"""One of logging's, in capitals."""
