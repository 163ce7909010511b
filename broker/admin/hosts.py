"""Refuses requests with a foreign `Host`, which pages can send by DNS rebinding."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

from broker.admin.errors import HostNotAllowed

UNCHECKED_PATHS = frozenset({"/metrics", "/health/live", "/health/ready", "/version"})
"""Paths that monitoring requests by any name. Their answers are not secret."""

LOCALHOST = "localhost"


class AllowedHosts:
    """names: of the admin port, such as `127.0.0.1` or `login.internal`.

    With a wildcard address such as `0.0.0.0`, every address is allowed, but no name: an attacker
    cannot make a browser send an address of another machine as `Host`.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {LOCALHOST, *(name.lower() for name in names)}
        addresses = [address for name in self._names if (address := _address(name))]
        self._allows_addresses = any(address.is_unspecified for address in addresses)

    def check(self, host: str, path: str) -> None:
        """Raise HostNotAllowed.  host: the header, with or without a port."""
        if path not in UNCHECKED_PATHS and not self._is_allowed(host):
            raise HostNotAllowed

    def _is_allowed(self, host: str) -> bool:
        name = ""
        with suppress(ValueError):
            name = urlsplit(f"//{host}").hostname or ""
        address = _address(name)
        if address is None:
            return name in self._names
        return address.is_loopback or self._allows_addresses or str(address) in self._names


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
