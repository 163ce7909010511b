"""The client's address behind trusted proxies."""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from aiohttp import hdrs, web

from broker.infrastructure.api.schema import sanitize_text
from broker.infrastructure.transport.websocket.acceptor import UpgradeRequest
from broker.infrastructure.transport.websocket.handshake import origin_of

USER_AGENT_MAX = 256
"""Characters of a User-Agent that are used."""

ADDRESS_CACHE_SIZE = 4_096
"""Parsed addresses in memory: parsing one takes as long as reading a request's body."""


class Caller(NamedTuple):
    """The client of a request.

    origin: of the page; None if the client is not a page.
    cookies: the header `Cookie` of a page of the broker, if a feature reads it; else None.
    """

    origin: str | None
    ip: str
    user_agent: str
    cookies: str | None = None


Address = ipaddress.IPv4Address | ipaddress.IPv6Address

PORT = r"(?::(?:[0-9]{1,5}|_[\w.-]+))?"

NODE = re.compile(rf"\[([0-9A-Fa-f:.]+)\]{PORT}|([0-9.]+){PORT}|([0-9A-Fa-f:.]+)(?:%.*)?", re.ASCII)
"""An address as proxies write it: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`,
`[2001:db8::1]`, `[2001:db8::1]:80` (RFC 7239, 6).  A link-local address may have a zone."""

PAIR = re.compile(
    r"""[ \t]*([\w!#$%&'*+.^`|~-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s",;]+))[ \t]*([;,]|\Z)"""
)
"""A parameter of `Forwarded` and its separator (RFC 7239, 4)."""


class ClientAddresses:
    """Finds the address of the client behind proxies.

    trusted: addresses or networks of proxies.  Only hops that these add are trusted.
    header: the header that the proxies set, a key of `FORWARDED_HEADERS`.  No other header is
        read, because a proxy forwards the headers of the client that it does not set.
    """

    def __init__(self, trusted: Iterable[str], header: str = "x-forwarded-for") -> None:
        self._trusted = [ipaddress.ip_network(network) for network in trusted]
        self._header = header
        self._hops = FORWARDED_HEADERS[header]

    def caller(self, request: web.Request | UpgradeRequest) -> Caller:
        """Return the client. Its texts are shared with other clients that have the same."""
        agent = sanitize_text(request.headers.get(hdrs.USER_AGENT, ""), USER_AGENT_MAX)
        origin, address = origin_of(request.headers), self.of(request)
        return Caller(origin and sys.intern(origin), sys.intern(address), sys.intern(agent))

    def is_known(self, request: web.Request | UpgradeRequest) -> bool:
        """Return whether `of` is the client: no unknown proxy has forwarded the request.

        A proxy is unknown if it is not trusted, or sets another header than the configured one.
        """
        if not any(name in request.headers for name in FORWARDING_HEADERS):
            return True
        return self._header in request.headers and self._is_trusted(request.remote or "")

    def of(self, request: web.Request | UpgradeRequest) -> str:
        """Return the last hop that is not a trusted proxy.

        A hop that is not an address, such as `unknown`, ends the search.  The result is then the
        address of the proxy that added it.
        """
        address = request.remote or "unknown"
        address = str(_parse(address) or address)  # IPv4 at a dual-stack socket, or a zone
        headers = request.headers.getall(self._header, ())
        for hop in reversed(self._hops(",".join(headers))) if headers else ():
            if not self._is_trusted(address) or not _parse(hop):
                break
            address = str(_parse(hop))
        return address

    def _is_trusted(self, address: str) -> bool:
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._trusted)


@lru_cache(maxsize=ADDRESS_CACHE_SIZE)
def _parse(text: str) -> Address | None:
    """Return the address of a hop with or without a port; None if it is not an address."""
    node = NODE.fullmatch(text.strip())
    try:
        address = ipaddress.ip_address(node[node.lastindex or 0] if node else "")
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _forwarded_hops(text: str) -> Sequence[str]:
    """Return the `for` of each element of `Forwarded`; "" if an element has none.

    Empty for a malformed header, even if its end is valid.  Otherwise a client could open
    a quoted string that hides the element that the next proxy adds.
    """
    hops, at = [""], 0
    while at < len(text):
        pair = PAIR.match(text, at)
        if pair is None:
            return ()
        name, quoted, bare, end = pair.groups()
        if name.lower() == "for":
            hops[-1] = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if end == ",":
            hops.append("")
        at = pair.end()
    return hops


FORWARDED_HEADERS: Mapping[str, Callable[[str], Sequence[str]]] = {
    "x-forwarded-for": lambda text: text.split(","),
    "forwarded": _forwarded_hops,
}
"""Functions that return the hops in a header, the client first."""

FORWARDING_HEADERS = (
    *FORWARDED_HEADERS,
    "x-real-ip",
    "x-forwarded-host",
    "x-forwarded-proto",
    "via",
)
"""Headers that proxies add."""
