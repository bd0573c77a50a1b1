import socket
import ssl

import pytest
from kombu.exceptions import BatchPublishError, OperationalError
from redis import exceptions

from lowtide.tasks.errors import LowtideError, RedisUnusable
from lowtide.tasks.redis.trouble import is_of_redis, named, trouble_of

PASSWORD = "hunter2"


def caused(error: Exception, by: BaseException) -> Exception:
    error.__cause__ = by
    return error


def certificate(why: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {why}")
    error.verify_message = why
    return error


NO_KEY = "this user has no permissions to access one of the keys used as arguments"
TROUBLES = {
    "Authentication required.": "wants a password",
    "HELLO must be called with the client already authenticated, otherwise the HELLO AUTH": "wants a password",
    "invalid username-password pair or user is disabled.": "refuses the user or the password",
    "WRONGPASS invalid username-password pair": "refuses the user or the password",
    "AUTH <password> called without any password configured for the default user": "has no password",
    "this user has no permissions to run the 'info' command or its subcommand": r"INFO → ACL SETUSER … \+info",
    "User fleet has no permissions to run the 'script|load' command": r"\+script\|load",
    NO_KEY: "may not use a key .*LOWTIDE_PREFIX",
    f"Command # 1 (LLEN lowtide) of pipeline caused error: {NO_KEY}": "may not use a key",
    "this user has no permissions to access one of the channels used as arguments": "may not use a channel .*doctor",
    "User fleet has no permissions to access the 'x' channel": "may not use a channel",
    "DB index is out of range": "no database of this number",
    "Redis is loading the dataset in memory": "loading its data",
    "DENIED Redis is running in protected mode because protected mode is enabled": "protected mode",
    "max number of clients reached": "all the clients",
    "No connection available.": "all in use",
    "command not allowed when used memory > 'maxmemory'.": "is full",
    "You can't write against a read only replica.": "is a replica",
    "MISCONF Redis is configured to save RDB snapshots, but is unable to persist to disk.": "its disk",
    "MOVED 3999 127.0.0.1:6381": "is a cluster",
    "unknown command 'BLPOP', with args beginning with:": "does not know BLPOP .*no command renamed",
    "EXEC without MULTI": "it answers, and refuses that",
    "Protocol Error: b'HTTP/1.1 400 Bad Request'": "is no Redis",
}


@pytest.mark.parametrize(
    "host",
    ["redis.default.svc.cluster.local", "uploading", "removed-1", "redis-readonly", "noperm", "mset.moved.example"],
)
@pytest.mark.parametrize(
    ("words", "called"),
    [
        ("Error 111 connecting to {}:6379. Connection refused.", "nothing listens there"),
        ("Error -2 connecting to {}:6379. Name or service not known.", "its host is not found"),
        ("Timeout reading from {}:6379", "does not answer in time"),
        ("Error while reading from {}:6379 : (104, 'Connection reset by peer')", "closes the connection"),
    ],
)
def test_the_name_of_a_host_says_nothing_of_what_is_wrong(host: str, words: str, called: str) -> None:
    assert called in str(trouble_of(exceptions.ConnectionError(words.format(host))))


@pytest.mark.parametrize("words", TROUBLES)
def test_what_redis_says_is_called_what_it_is_also_when_it_is_wrapped(words: str) -> None:
    error = exceptions.ResponseError(words)
    gave_up = RuntimeError("Retry limit exceeded while trying to reconnect to the Celery result store backend.")

    for wrapped in (error, caused(OperationalError(words), error), caused(gave_up, error)):
        assert is_of_redis(wrapped)
        with pytest.raises(AssertionError, match=TROUBLES[words]):
            raise AssertionError(str(trouble_of(wrapped)))


EOF = "EOF occurred in violation of protocol (_ssl.c:2427)"


@pytest.mark.parametrize(
    "words",
    [
        "Error 136 connecting to h:1. [X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate or crl found (_ssl.c:4154).",
        "Error 524297 connecting to h:1. [SSL] PEM lib (_ssl.c:3905).",
        "Error 116 connecting to h:1. [X509: KEY_VALUES_MISMATCH] key values mismatch (_ssl.c:3926).",
        "Error 1 connecting to h:1. [SSL: UNSUPPORTED_PROTOCOL] unsupported protocol (_ssl.c:1006).",
        "Error 1 connecting to h:1. [SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version (_ssl.c:1006).",
        "Error 1 connecting to h:1. [SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)",
        f"Error 8 while writing to socket. {EOF}",
    ],
)
def test_nobody_whose_redis_speaks_tls_is_advised_to_do_without(words: str) -> None:
    assert "redis://" not in str(trouble_of(exceptions.ConnectionError(words)))


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (
            caused(exceptions.ConnectionError("Error 1 connecting"), certificate("self-signed certificate")),
            "self-signed",
        ),
        (caused(exceptions.ConnectionError("x"), certificate("Hostname mismatch")), "certificate is refused: Hostname"),
        (
            caused(
                exceptions.TimeoutError("Timeout connecting"), TimeoutError("_ssl.c:989: The handshake operation …")
            ),
            "does not speak TLS",
        ),
        (exceptions.ConnectionError("Error 1 connecting: [SSL: WRONG_VERSION_NUMBER] wrong version"), "not speak TLS"),
        (exceptions.ConnectionError(f"Error 8 connecting to h:1. {EOF}"), "does not speak TLS"),
        (exceptions.ConnectionError(f"Error 8 while writing to socket. {EOF}"), "closes .*it wants a certificate"),
        (exceptions.ConnectionError(f"Error while reading from h:1 : (8, '{EOF}')"), "closes the connection"),
        (
            exceptions.ConnectionError("Error 1 connecting to h:1. [SSL: ODD] odd (_ssl.c:1)."),
            r"TLS fails: .*\[SSL: ODD",
        ),
        (
            caused(exceptions.ConnectionError("x"), socket.gaierror(-2, "Name or service not known")),
            "host is not found",
        ),
        (exceptions.ConnectionError("Error -2 connecting to h:1. Name or service not known."), "host is not found"),
        (exceptions.ConnectionError("Error 111 connecting to h:1. Connection refused."), "nothing listens there"),
        (OperationalError("[Errno 111] Connection refused"), "nothing listens there"),
        (exceptions.ConnectionError("Error 113 connecting to h:1. No route to host."), "no way leads"),
        (exceptions.TimeoutError("Timeout reading from socket"), "does not answer in time"),
        (exceptions.ClusterDownError("Hash slot not served"), "is a cluster"),
        (exceptions.MovedError("3999 127.0.0.1:6381"), "is a cluster"),
        (exceptions.ClusterCrossSlotError("Keys in request don't hash to the same slot"), "is a cluster"),
        (exceptions.ConnectionError("Connection closed by server."), "closes the connection .*rediss://"),
    ],
)
def test_what_is_between_us_and_redis_is_called_what_it_is(error: Exception, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        raise AssertionError(str(trouble_of(error)))


def test_what_nobody_knows_is_told_in_its_own_words_and_without_a_secret() -> None:
    error = caused(BatchPublishError("a batch failed"), exceptions.RedisError(f"odd: redis://:{PASSWORD}@host/0"))

    assert "odd: redis://:…@host/0" in str(trouble_of(error))
    assert not is_of_redis(OSError("odd"))


def test_a_caller_gets_one_error_that_is_also_the_one_it_used_to_be() -> None:
    with (
        pytest.raises(RedisUnusable, match="Redis can't be used: not reachable: nothing listens there") as raised,
        named(),
    ):
        raise exceptions.ConnectionError("Error 111 connecting to h:1. Connection refused.")

    assert isinstance(raised.value, (LowtideError, OperationalError, exceptions.RedisError))
    with pytest.raises(RuntimeError, match="not of Redis"), named():
        raise RuntimeError("not of Redis")
