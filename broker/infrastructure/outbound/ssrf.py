"""Where a request of ours may go, when its URL is not quite ours: to public addresses only.

The address is looked at when its socket is made, and that socket is connected to that
address: a name that has meanwhile come to mean another one, a number that is spelled
oddly and a redirect gain nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""As getaddrinfo gives it: family, kind, protocol, name, and the address with its port."""

GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
"""All that IANA has given away of IPv6; what is written as IPv4 (::ffff:0:0/96, 64:ff9b::/96)
lies elsewhere."""

SPECIAL_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24"),
            *("192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
            *("224.0.0.0/4", "240.0.0.0/4"),
            *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
            "168.63.129.16/32",  # a virtual machine's own host in Azure, public by its number
        ),
    )
)
"""IANA's registries of special addresses.  Python's own list differs from one release to the
next, and calls some of these global."""


class AddressNotAllowed(OSError):
    """The address is none that the world can reach, so it is not asked."""


def is_public(address: Address) -> bool:
    """Whether it is one machine that anybody in the world can reach by it."""
    if isinstance(address, ipaddress.IPv6Address) and address not in GLOBAL_UNICAST:
        return False
    return not any(address in network for network in SPECIAL_NETWORKS)


def is_loopback(host: str) -> bool:
    """Whether a name or an address says that it is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def may_be_public(host: str) -> bool:
    """Whether a name or an address can be a public server's: a name shows it only when asked."""
    try:
        return is_public(ipaddress.ip_address(host))
    except ValueError:
        return not is_loopback(host)


def create_public_socket(info: AddressInfo) -> socket.socket:
    """A socket for an address that is public; raises AddressNotAllowed for another."""
    family, kind, protocol, _, where = info
    address = ipaddress.ip_address(str(where[0]).partition("%")[0])
    if not is_public(address):
        raise AddressNotAllowed(f"{address} is no public address")
    return socket.socket(family, kind, protocol)
