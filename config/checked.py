"""What settings may be. Each function gives the value, or raises ValueError with a sentence that says the wanted form.

What may hold a secret is not quoted.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from lowtide.config.addresses import host_port, is_address, is_host
from lowtide.config.redis_url import RedisAddress

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
NO_METADATA = "none"
"""The value of `metadata_url` that reads no notices."""

Texts = tuple[str, ...]


def logins(value: Texts) -> Texts:
    """Each is `user:password`."""
    if any(":" not in entry or not entry.isascii() or not entry.isprintable() for entry in value):
        raise ValueError(
            'expected user:password, or a JSON array of several, ["user:password","other:password"]; Flower compares '
            "ASCII characters alone"
        )
    return value


def networks(value: Texts) -> Texts:
    """Each is a CIDR."""
    for entry in value:
        try:
            ipaddress.ip_network(entry)
        except ValueError as error:
            raise ValueError(f"{error}: expected a network such as 10.0.0.0/8") from error
    return value


def hosts(value: Texts) -> Texts:
    """Each is what stands between `https://` and the path, without a port."""
    for entry in value:
        if entry != "*" and not is_host(entry.removeprefix("*.")):
            raise ValueError(
                f"expected hosts such as images.example.org or *.example.org, without https://, port or path: {entry!r}"
            )
    return value


def buckets(value: Texts) -> Texts:
    """Each is a bucket's name, or `*`."""
    for entry in value:
        if not re.fullmatch(r"[^/\s:]+", entry):
            raise ValueError(f"expected names of buckets, without gs:// and path: {entry!r}")
    return value


def folders(value: Texts) -> Texts:
    """Each is a path."""
    for entry in value:
        if not isinstance(entry, str) or not entry or "\0" in entry:
            raise ValueError(f"expected folders: {entry!r}")
        if "://" in entry or entry.startswith("~"):
            raise ValueError(f"expected folders such as /data/images, without file:// and ~: {entry!r}")
    return value


def models(value: Texts) -> Texts:
    """Each is a name, or `name=package.module:Class`. What ends as queues do would share a queue with another model."""
    for entry in value:
        name = entry.partition("=")[0]
        if name.endswith((".high", ".topic")):
            raise ValueError(f"a model's name can't end with .high or .topic, as the names of queues do: {name!r}")
    return value


def subscriptions(value: Texts) -> Texts:
    """Each is a name, with or without its project."""
    return tuple(_resource(entry, "subscription") for entry in value)


def topic(value: str) -> str:
    """A name, with or without its project."""
    return _resource(value, "topic")


def _resource(value: str, kind: str) -> str:
    if not re.fullmatch(rf"[^/\s]+|projects/[^/\s]+/{kind}s/[^/\s]+", value):
        raise ValueError(f"expected a {kind}'s name, or projects/PROJECT/{kind}s/NAME: {value!r}")
    return value


def project(value: str) -> str:
    """An id."""
    if not re.fullmatch(r"[^/\s]+", value):
        raise ValueError(f"expected a project's id, such as my-project-123: {value!r}")
    return value


def fleet(value: str) -> str:
    """A label's value."""
    if not value or re.search(r'["\\\r\n]', value):
        raise ValueError(f"expected a name without quotation marks, backslashes and line ends: {value!r}")
    return value


def log_level(value: str) -> str:
    """In capitals."""
    level = {"WARN": "WARNING"}.get(value.upper(), value.upper())
    if level not in LEVELS:
        raise ValueError(f"expected one of {', '.join(LEVELS)}: {value!r}")
    return level


def redis_url(value: str) -> str:
    """Read, to see that it can be."""
    RedisAddress.of(value)
    return value


def replaced(value: str) -> str:
    """A text in which nothing is left that stands in files of variables and is no part of a value."""
    if re.search(r"\$\{\w*\}|\$\(\w+\)", value):
        raise ValueError("holds a variable, ${…} or $(…), which nothing has replaced by its value")
    if value[:1] not in ("[", "{") and re.search(r"\s#\s", value):
        raise ValueError("holds what seems to be a comment: put it on a line of its own, not behind the value")
    return value


def prefix(value: str) -> str:
    """What neither Redis nor a person takes for something else."""
    if not value.isprintable() or re.search(r"[\s*?\[\]^\\]", value):
        raise ValueError(
            "expected a word such as fleet1: without blanks, and without * ? [ ] ^ and backslashes, which Redis takes "
            f"for patterns: {value!r}"
        )
    return value


def web_url(value: str) -> str:
    """A server's address."""
    if value and not _is_web_url(value):
        raise ValueError("expected http://host:port or https://host:port, without a login and without parameters")
    return value


def metadata_url(value: str) -> str:
    """A server's address, or `none`."""
    return NO_METADATA if value.lower() == NO_METADATA else web_url(value)


def _is_web_url(value: str) -> bool:
    if not re.fullmatch(r"https?://[^\s/@?#'\"<>]+(/[^\s@?#'\"<>]*)?", value):
        return False
    try:
        parts = urlsplit(value)
        return is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        return False


def host_and_port(value: str) -> str:
    """Read, to see that it can be."""
    if value:
        host_port(value)
    return value


def listen_address(value: str) -> str:
    """What a server may bind."""
    if not is_host(value):
        bare = value.strip("[]")
        hint = (
            f"without brackets, {bare}"
            if is_address(bare)
            else "0.0.0.0 for every address, or :: with those of IPv6"
            if value == "*"
            else "an address or a name, without http:// and port"
        )
        raise ValueError(f"expected an address to listen on, such as 127.0.0.1 or ::1, got {value!r}: write {hint}")
    return value
