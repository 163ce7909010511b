"""Checks the networks of business servers, whose session calls have no authentication."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from aiohttp import web

from broker.infrastructure.api.client_address import ClientAddresses
from broker.wafer.errors import UnknownBusinessServer


class NetworkGuard:
    """Checks the address of a client.

    networks: CIDR networks of the business servers.
    """

    def __init__(self, *, addresses: ClientAddresses, networks: Iterable[str]) -> None:
        self._addresses = addresses
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def check(self, http: web.Request) -> None:
        """Raises UnknownBusinessServer for a client outside the networks.

        Also for a request that a proxy has forwarded which is not trusted: behind it, every
        client would have the proxy's address.
        """
        if not self._addresses.is_known(http) or not self._is_inside(self._addresses.of(http)):
            raise UnknownBusinessServer

    def _is_inside(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:  # a Unix socket
            return False
        return any(address in network for network in self._networks)
