"""`host:port` and addresses to listen on, as people write them and as URLs have them. Pure, imports nothing of ours."""

import ipaddress
import re

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
PORT_MAX = 65_535


def is_host(text: str) -> bool:
    """A host's name, or an address without brackets."""
    return is_address(text) or bool(_NAME.fullmatch(text))


def is_address(text: str) -> bool:
    """An address of IPv4 or IPv6, without brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there. A name other than localhost is not looked up."""
    return ipaddress.ip_address(host).is_loopback if is_address(host) else host.lower().rstrip(".") == "localhost"


def at(host: str, port: int) -> str:
    """`host:port`, with brackets around an address of IPv6.

    >>> at("::1", 8085)
    '[::1]:8085'
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_port(text: str) -> tuple[str, int]:
    """The two parts of `host:port` or `[address]:port`. Raises ValueError with a sentence that says the wanted form."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if "://" in text:
        wrong = f"leave out {text.partition('://')[0]}://"
    elif is_address(text) and ":" in text:
        wrong = f"an address of IPv6 goes into brackets, [{text}]:PORT"
    elif not colon or text.endswith("]"):
        wrong = "the port is missing"
    elif not is_host(bare) or (":" in bare) != (bare != host):
        wrong = "that is no host" if bare else "the host is missing"
    elif not (port.isascii() and port.isdigit() and 0 < int(port) <= PORT_MAX):
        wrong = f"a port is a number from 1 to {PORT_MAX}"
    else:
        return bare, int(port)
    raise ValueError(f"expected host:port, such as localhost:8085 or [::1]:8085, got {text!r}: {wrong}")
