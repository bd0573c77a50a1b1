"""What is wrong with Redis, by the error that a client raised: one sentence, and what to do. Pure."""

import errno
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kombu.exceptions import KombuError
from redis import RedisError, ResponseError
from redis.exceptions import AskError, ClusterError

from lowtide.config.redact import redacted
from lowtide.tasks.errors import OtherProtocol, RedisUnusable

URL = "LOWTIDE_REDIS_URL"
CODE = re.compile(r"\bE(?:rror|rrno) (\d+)\b|\[Errno (\d+)\]")
COMMAND = re.compile(r"run the '([^']+)' command|unknown command ['`]?([\w|]+)", re.IGNORECASE)
ADDRESS = re.compile(r"(connecting to|reading from) \S+")
"""What redis-py quotes is the operator's own: `redis.default.svc.cluster.local` is no cluster of Redis."""
UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """`what` is wrong, and the `remedy`. `right`: the user of Redis lacks a right; trying again does not help."""

    what: str
    remedy: str
    right: bool = False

    def __str__(self) -> str:
        return f"{self.what} → {self.remedy}"


def trouble_of(error: BaseException) -> Trouble:
    """What an error of redis-py, kombu or Celery says, whatever they have wrapped it into."""
    errors = list(_chain(error))
    text = " | ".join(ADDRESS.sub(r"\1 it", str(each)) for each in errors)
    for looks_like, made in _TABLE:
        if looks_like(errors, text):
            return made(errors, text)
    answers = any(isinstance(each, ResponseError) for each in errors)
    remedy = "it answers, and refuses that: look at its settings and its log" if answers else f"start it, or set {URL}"
    return Trouble(what=redacted(_words(errors)), remedy=remedy)


@contextmanager
def named() -> Iterator[None]:
    """What a client of Redis raises in this block is raised as RedisUnusable."""
    try:
        yield
    except (RedisError, KombuError, RuntimeError) as error:  # the last is Celery's, of a result backend that gave up
        if not is_of_redis(error):
            raise
        raise RedisUnusable(f"Redis can't be used: {trouble_of(error)}") from error


def is_of_redis(error: BaseException) -> bool:
    """Whether a client of Redis raised it, or what wraps it."""
    return any(isinstance(each, RedisError) for each in _chain(error))


def told(error: Exception) -> object:
    """What a log line says of an error: of one of Redis what is wrong there, of any other its own words."""
    return trouble_of(error) if is_of_redis(error) else error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _words(errors: list[BaseException]) -> str:
    """Those of Redis itself, if there are any: what wraps them says less."""
    return str(next((each for each in errors if isinstance(each, RedisError) and str(each)), errors[0]))


_Errors = list[BaseException]
_Rule = tuple[Callable[[_Errors, str], Any], Callable[[_Errors, str], Trouble]]


def _says(pattern: str) -> Callable[[_Errors, str], Any]:
    found = re.compile(pattern, re.IGNORECASE)
    return lambda errors, text: found.search(text)


def _is(*kinds: type[BaseException]) -> Callable[[_Errors, str], Any]:
    return lambda errors, text: any(isinstance(each, kinds) for each in errors)


def _code(*codes: int) -> Callable[[_Errors, str], Any]:
    def look(errors: _Errors, text: str) -> bool:
        named = {int(number) for found in CODE.findall(text) for number in found if number}
        return bool(set(codes) & ({getattr(each, "errno", None) for each in errors} | named))

    return look


def _plain(what: str, remedy: str, *, right: bool = False) -> Callable[[_Errors, str], Trouble]:
    return lambda errors, text: Trouble(what=what, remedy=remedy, right=right)


def _certificate(errors: _Errors, text: str) -> Trouble:
    why = next((each.verify_message for each in errors if isinstance(each, ssl.SSLCertVerificationError)), "")
    return Trouble(
        what=f"its certificate is refused{f': {why}' if why else ''}",
        remedy=f"name its authority in {URL}, ?ssl_ca_certs=/path/ca.pem, and the host by a name in the certificate",
    )


def _tls(errors: _Errors, text: str) -> Trouble:
    return Trouble(what=f"TLS fails: {redacted(_words(errors))}", remedy="compare what both ends allow")


def _command(errors: _Errors, text: str) -> Trouble:
    found = COMMAND.search(text)
    name = ((found[1] or found[2]) if found else "?").lower()
    return Trouble(what=f"the user may not run {name.upper()}", remedy=f"ACL SETUSER … +{name}", right=True)


def _unknown(errors: _Errors, text: str) -> Trouble:
    found = COMMAND.search(text)
    name = ((found[1] or found[2]) if found else "?").upper()
    return Trouble(
        what=f"it does not know {name}",
        remedy="workers need Redis 6.2 or later, or what answers as it does, with no command renamed",
    )


_PASSWORD = f"correct user and password in {URL}, percent-encoded"


def _protocol(errors: _Errors, text: str) -> Trouble:
    error = next(each for each in errors if isinstance(each, OtherProtocol))
    remedy = f"run a release that speaks {error.spoken}, or choose another LOWTIDE_PREFIX, or another database in {URL}"
    return Trouble(what=str(error), remedy=remedy)


_CLUSTER = _plain("it is a cluster, which a fleet can't use", f"name a single server in {URL}")
_NO_HOST = _plain("not reachable: its host is not found", f"correct the host in {URL}")
_TABLE: tuple[_Rule, ...] = (
    (_is(OtherProtocol), _protocol),
    (_is(ssl.SSLCertVerificationError), _certificate),
    (_says("CERTIFICATE_VERIFY_FAILED"), _certificate),
    (
        _says("PEM lib|NO_CERTIFICATE_OR_CRL_FOUND|KEY_VALUES_MISMATCH|NO_START_LINE|ASN1"),
        _plain(
            f"a file that {URL} names is no certificate, or not the key of the one beside it",
            "look into ssl_ca_certs, ssl_certfile and ssl_keyfile: they are PEM",
        ),
    ),
    (
        _says("CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE|BAD_CERTIFICATE|UNKNOWN_CA"),
        _plain(
            "it wants a certificate of ours", f"name one that it accepts, with ssl_certfile and ssl_keyfile in {URL}"
        ),
    ),
    (
        _says("while (writing to|reading from) .*violation of protocol"),
        _plain(
            "not reachable: it closes the connection",
            f"look at it, and whether it wants a certificate of ours (ssl_certfile and ssl_keyfile in {URL})",
        ),
    ),
    (
        _says("UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION"),
        _plain("it speaks TLS of another version", "let it speak TLS 1.2 or later"),
    ),
    (
        _says("handshake operation|WRONG_VERSION_NUMBER|violation of protocol|RECORD_LAYER"),
        _plain("it does not speak TLS there", f"write redis:// in {URL}, or name the port that does"),
    ),
    (_says(r"_ssl\.c|\[SSL"), _tls),
    (
        _says("Authentication required|NOAUTH|must be called with the client already authenticated"),
        _plain("it wants a password", f"write it into {URL}: redis://user:password@host, or redis://:password@host"),
    ),
    (
        _says("without any password configured|no password is set"),
        _plain("it has no password, and is given one", f"take it out of {URL}, or set requirepass"),
    ),
    (
        _says("invalid username-password|invalid password|WRONGPASS"),
        _plain("it refuses the user or the password", _PASSWORD),
    ),
    (_says("no permissions? to run|can't run this command"), _command),
    (
        _says("no permissions? to access .*channel"),
        _plain(
            "the user may not use a channel that a fleet needs",
            "`lowtide doctor` names the rule: ACL SETUSER … &CHANNEL",
            right=True,
        ),
    ),
    (
        _says("no permissions? to access"),
        _plain(
            "the user may not use a key that a fleet needs",
            "ACL SETUSER … ~PREFIX*, with the prefix of LOWTIDE_PREFIX, which is ~* without one",
            right=True,
        ),
    ),
    (_says("NOPERM"), _plain("the user lacks a right", "`lowtide doctor` names the rule", right=True)),
    (_says("DB index is out of range"), _plain("it has no database of this number", f"correct the number in {URL}")),
    (_says("is loading the dataset|LOADING"), _plain("it is loading its data", "wait until it has")),
    (
        _says("protected mode"),
        _plain("it is in protected mode: only its own machine reaches it", "set a password there (requirepass)"),
    ),
    (_says("max number of clients"), _plain("it has all the clients that it takes", "raise its maxclients")),
    (
        _says("No connection available"),
        _plain("its connections are all in use, each for long", "look at it: it is slow, or does not answer"),
    ),
    (_says("used memory > 'maxmemory'|OOM command"), _plain("it is full", "raise its maxmemory, or add workers")),
    (_says("read only replica|READONLY"), _plain("it is a replica, which can't be written to", f"correct {URL}")),
    (_says("MASTERDOWN"), _plain("it is a replica without its master", f"name the master in {URL}")),
    (_says("MISCONF|unable to persist"), _plain("it can't write to its disk, and refuses", "look into its log")),
    (_is(ClusterError, AskError), _CLUSTER),
    (_says("MOVED|CLUSTERDOWN|CROSSSLOT|cluster|hash to the same slot"), _CLUSTER),
    (_says("unknown command"), _unknown),
    (
        _says("Protocol Error|invalid response"),
        _plain("what answers there is no Redis", f"correct host and port in {URL}"),
    ),
    (_is(socket.gaierror), _NO_HOST),
    (_says("Name or service not known|name resolution|nodename nor servname|No address associated"), _NO_HOST),
    (
        _code(errno.ECONNREFUSED),
        _plain("not reachable: nothing listens there", f"start it, or set {URL}"),
    ),
    (
        _code(*UNREACHABLE),
        _plain("not reachable: no way leads to its host", f"look at the network, or correct {URL}"),
    ),
    (
        _says("timed out|timeout"),
        _plain("not reachable: it does not answer in time", f"look at it and at firewalls between, or correct {URL}"),
    ),
    (
        _says("Connection closed|closed by server|reset by peer|Broken pipe"),
        _plain(
            "not reachable: it closes the connection", f"look at it; write rediss:// in {URL} if it speaks TLS there"
        ),
    ),
)
