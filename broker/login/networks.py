"""The networks from which an app allows logins."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from broker.login.errors import NetworkNotAllowed

NETWORK_CACHE_SIZE = 1_024
"""Apps whose networks are parsed in memory."""


def check_network(networks: tuple[str, ...], address: str) -> None:
    """Raise NetworkNotAllowed unless `address` is in one of `networks`, or there are none."""
    if networks and not _contains(_parse(networks), address):
        raise NetworkNotAllowed


def _contains(networks: tuple[IPv4Network | IPv6Network, ...], address: str) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


@lru_cache(maxsize=NETWORK_CACHE_SIZE)
def _parse(networks: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(map(ip_network, networks))
