"""`RedisAddress`: what LOWTIDE_REDIS_URL says, read once for every part: our own clients, Celery and Flower."""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from lowtide.config.addresses import at, is_host

PORT = 6379
FORM = (
    "expected redis://host[:port][/db], or rediss:// for TLS, with user:password@ or :password@ before the host if "
    "Redis wants one; percent-encode what is no letter or digit in the password"
)
OTHERS = {
    "unix": "a Unix socket",
    "redis+socket": "a Unix socket",
    "sentinel": "Sentinel",
    "redis+sentinel": "Sentinel",
    "rediss+sentinel": "Sentinel",
    "redis+cluster": "a cluster",
    "rediss+cluster": "a cluster",
    "http": "a web server",
    "https": "a web server",
    "amqp": "RabbitMQ",
    "amqps": "RabbitMQ",
}
CERT_REQS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
CLIENTS = re.compile(
    r"(ssl|socket|retry|health|client|max|master|virtual|connection|decode|encoding|protocol|timeout)(_[a-z]{2,12}){0,3}"
)
"""Parameters of redis-py, kombu and Celery."""
PARAMETERS = ("db", "ssl_cert_reqs", "ssl_check_hostname", *FILES)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where Redis is, who we are there, and how TLS is spoken: `tls` are redis-py's `ssl_…` arguments, or None.
    Kombu, Celery's result backend and Flower hand the same arguments on to redis-py.
    """

    host: str
    port: int = PORT
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, url: str) -> "RedisAddress":
        """Read a URL. Raises ValueError with a sentence that quotes nothing that may be a secret."""
        parts = _split(url)
        given = _parameters(parts.query)
        return cls(
            host=unquote(parts.hostname or ""),
            port=parts.port or PORT,
            db=_database(parts.path, given.pop("db", None)),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls=_tls(given, wanted=parts.scheme == "rediss"),
        )

    @property
    def url(self) -> str:
        """Without parameters, which redis-py, kombu and Celery's backend each read in their way. With the password."""
        login = f"{quote(self.username or '', safe='')}:{quote(self.password or '', safe='')}@" if self.password else ""
        return f"redis{'s' if self.tls is not None else ''}://{login}{at(self.host, self.port)}/{self.db}"


def _split(url: str) -> SplitResult:
    scheme = url.partition("://")[0].lower()
    if scheme in OTHERS:
        raise ValueError(f"{FORM}. {scheme}:// is {OTHERS[scheme]}, which a fleet can't use")
    if re.search(r"[;,]", url.partition("://")[2].rpartition("@")[2].partition("?")[0]):
        raise ValueError(f"{FORM}. This names several servers, and a fleet uses one")
    try:
        parts = urlsplit(url)
        # What follows the last @ is the host: an @ behind it was part of a password that is not encoded.
        stray = "@" in parts.path + parts.query or re.search(r"[\s'\"<>\\#]", url)
        fine = (
            scheme in ("redis", "rediss") and is_host(unquote(parts.hostname or "")) and parts.port != 0 and not stray
        )
    except ValueError:
        raise ValueError(FORM) from None  # Python's words quote what may be the password
    if not fine:
        raise ValueError(FORM)
    if parts.username and not parts.password:
        raise ValueError("names a user without a password: write user:password@, or :password@ for requirepass")
    return parts


def _parameters(query: str) -> dict[str, str]:
    """Names and values. `+` is itself: it is more often part of a path than a blank."""
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    given = {unquote(name): unquote(value) for name, _, value in pairs}
    for name in given:
        if name not in PARAMETERS:
            # Else not quoted: it may be the rest of a password that is not encoded.
            which = f"the parameter {name}" if CLIENTS.fullmatch(name) else "a parameter"
            raise ValueError(
                f"{which} is none that a fleet has: known are {', '.join(PARAMETERS)}; times and connections are "
                "Lowtide's own to choose"
            )
    if len(given) < len(pairs):
        raise ValueError("names a parameter twice")
    return given


def _database(path: str, parameter: str | None) -> int:
    named = {text for text in (path.strip("/"), parameter) if text}
    if len(named) > 1:
        raise ValueError("names two databases: one in the path, another as db=")
    text = next(iter(named), "0")
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise ValueError("the database is a number, such as /0")  # not quoted: see _parameters
    return int(text)


def _tls(given: Mapping[str, str], *, wanted: bool) -> dict[str, Any] | None:
    """Certificates and host names are checked unless the URL says else. Each word may be spelt as redis-py does,
    `none`, or as Celery does, `CERT_NONE`.
    """
    if not wanted:
        if given:
            raise ValueError(f"{next(iter(given))} is for TLS: write rediss://")
        return None
    word = given.get("ssl_cert_reqs", "required")
    needs = CERT_REQS.get(word.lower().removeprefix("ssl.").removeprefix("cert_"))
    if needs is None:
        raise ValueError(f"ssl_cert_reqs is required, optional or none: got {word[:40]!r}")
    check = given.get("ssl_check_hostname", "true" if needs else "false")
    if check.lower() not in BOOLEANS:
        raise ValueError(f"ssl_check_hostname is true or false: got {check[:40]!r}")
    if needs == ssl.CERT_NONE and BOOLEANS[check.lower()]:
        raise ValueError("ssl_check_hostname=true has no certificate to look at with ssl_cert_reqs=none")
    files = {name: given[name] for name in FILES if name in given}
    for name, path in files.items():
        if not Path(path).exists():
            raise ValueError(f"{name} names {path}, and there is no such file")
    return {"ssl_cert_reqs": needs, "ssl_check_hostname": BOOLEANS[check.lower()], **files}
