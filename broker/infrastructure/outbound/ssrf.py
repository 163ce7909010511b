"""SSRF protection: requests to URLs of others are sent to public addresses only.

The check runs when the socket for an address is created, and the socket connects to the same
address. So neither a name whose address changes, nor an unusual spelling of an address, nor
a redirect avoids the check.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""A row of getaddrinfo: family, type, protocol, name, and the address with its port."""

GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
"""All public IPv6 addresses that IANA has assigned. IPv4 addresses in IPv6 notation
(::ffff:0:0/96, 64:ff9b::/96) are outside this network."""

SPECIAL_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24"),
            *("192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
            *("224.0.0.0/4", "240.0.0.0/4"),
            *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
            "168.63.129.16/32",  # the host of a virtual machine in Azure, in a public network
        ),
    )
)
"""IANA's registries of special addresses. Python's list differs between releases, and treats
some of these as global."""


class AddressNotAllowed(OSError):
    """The address is not public, so no request is sent."""


def is_public(address: Address) -> bool:
    """Return whether this is the address of one host on the public internet."""
    if isinstance(address, ipaddress.IPv6Address) and address not in GLOBAL_UNICAST:
        return False
    return not any(address in network for network in SPECIAL_NETWORKS)


def is_loopback(host: str) -> bool:
    """Return whether a name or an address is this machine's loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def may_be_public(host: str) -> bool:
    """Return False for an address that is not public. A name may resolve to a public address."""
    try:
        return is_public(ipaddress.ip_address(host))
    except ValueError:
        return not is_loopback(host)


def create_public_socket(info: AddressInfo) -> socket.socket:
    """Return a socket for a public address. Raises AddressNotAllowed for any other."""
    family, socket_type, protocol, _, socket_address = info
    address = ipaddress.ip_address(str(socket_address[0]).partition("%")[0])
    if not is_public(address):
        raise AddressNotAllowed(f"{address} is not a public address")
    return socket.socket(family, socket_type, protocol)
