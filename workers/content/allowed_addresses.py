"""Which addresses content may come from, checked on the very address that a connection is then made to.

A name is looked up once: what was checked is what is connected to, so a second answer of the name server (DNS
rebinding) has no say. Nothing, not even a handshake, reaches an address that is refused.
"""

import ipaddress
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from lowtide.tasks.errors import ContentError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that IANA has given out for the public IPv6 Internet; `is_global` alone also allows what nobody was given."""

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are an IPv4 address, which a gateway connects to."""


def effective(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for (mapped, 6to4, NAT64), else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def reachable(address: Address, private_networks: Iterable[Network] = ()) -> bool:
    """True for a public address, and for one in a network that the operator allows."""
    address = effective(address)
    if any(address in network for network in private_networks):
        return True
    unicast = not address.is_multicast if isinstance(address, ipaddress.IPv4Address) else address in GLOBAL_UNICAST
    return address.is_global and unicast


def guarded_adapter(private_networks: Iterable[str], **options: Any) -> HTTPAdapter:
    """An adapter for `https://` whose connections go to reachable addresses only, else raise ContentError.

    `private_networks` are CIDRs; `options` are HTTPAdapter's.
    """
    networks = tuple(map(ipaddress.ip_network, private_networks))

    class Connection(_Connection):
        private_networks = networks

    class Pool(HTTPSConnectionPool):
        ConnectionCls = Connection

    adapter = HTTPAdapter(**options)
    adapter.poolmanager.pool_classes_by_scheme = {"https": Pool}
    return adapter


class WatchedConnection(HTTPConnection):
    """A connection whose answers can be cut off. Urllib3's time-out is between two bytes: a server that drips would
    hold the thread.
    """

    answering: socket.socket
    """What the last answer comes through; `sock` is None as soon as the answer says that it is the last one."""

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        """Urllib3's own, its headers within the time-out."""
        self.answering = self.sock
        with cut_off(self.answering, after_s=float(self.timeout or 0)) as late:
            response = super().getresponse()
        if late.is_set():  # headers that break off are headers to http.client
            response.close()
            raise TimeoutError("the headers are not here in time")
        return response


class _Connection(WatchedConnection, HTTPSConnection):
    private_networks: ClassVar[tuple[Network, ...]]

    def _new_conn(self) -> socket.socket:
        return connect(self, self.private_networks)


def connect(to: HTTPSConnection, networks: Iterable[Network]) -> socket.socket:
    """A socket to the first reachable address of the host that answers, within `to.timeout` seconds for all of them.

    Raises ContentError when no address of the host is reachable, urllib3's HTTPError when none answers.
    """
    until_s = time.monotonic() + float(to.timeout or 0)
    allowed = [each for each in _look_up(to) if reachable(ipaddress.ip_address(each), networks)]
    if not allowed:
        # Where it is instead is nothing that a publisher should learn.
        message = f"{to.host} has no public address: allow its network with LOWTIDE_HTTPS_PRIVATE_NETWORKS"
        raise ContentError(message, type="forbidden")
    for left in range(len(allowed), 0, -1):
        share_s = max((until_s - time.monotonic()) / left, 0.001)
        try:
            found = create_connection((allowed[-left], to.port), share_s, socket_options=to.socket_options)
        except OSError as error:
            failure = error
        else:
            found.settimeout(to.timeout)  # for the handshake
            return found
    raise NewConnectionError(to, f"can't be reached: {failure}") from failure


def _look_up(to: HTTPSConnection) -> list[str]:
    """Every address of the host, each once, as text that needs no further look-up."""
    answer: Future[list[str]] = Future()
    # The system's resolver has no time-out, and asks for minutes where no name server answers.
    threading.Thread(target=_answer, args=(answer, to.host, to.port), name="look-up", daemon=True).start()
    try:
        return answer.result(float(to.timeout or 0))
    except socket.gaierror as error:
        raise NameResolutionError(to.host, to, error) from error
    except TimeoutError as error:
        raise ConnectTimeoutError(f"no name server knew {to.host} within {to.timeout:.0f} s") from error


def _answer(answer: Future[list[str]], host: str, port: int | None) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except Exception as error:  # noqa: BLE001 - raised again where the answer is waited for
        answer.set_exception(error)
    else:
        answer.set_result(list(dict.fromkeys(str(address[0]) for *_, address in found)))


@contextmanager
def cut_off(connection: socket.socket, *, after_s: float) -> Iterator[threading.Event]:
    """A block that reads from `connection`, for `after_s` at most: then it finds the connection at its end, and the
    event is set.
    """
    late = threading.Event()
    watch = threading.Timer(max(after_s, 0.0), _cut, (connection, late))
    watch.daemon = True
    watch.start()
    try:
        yield late
    finally:
        watch.cancel()


def _cut(connection: socket.socket, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):
        # Not the TLS socket's own `shutdown`, which pulls the rug from under the thread that reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
