"""The client's address, and the rate limits of the public port.

Each limit counts events per rate-limit key: an IPv4 address, an IPv6 /64 network, a
person, an app or a login.  Counters are local to this process.

Secrets are checked before failures are counted.  A client that shows a right secret is
served, however many failed attempts others have made from its address; a failed attempt
over the limit is answered with `rate_limited`.  See docs/decisions/0023.

After `close` new logins and new sockets are refused; clients with a login go on.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import structlog
from aiohttp import hdrs, web

from broker.edge.wire import plain
from broker.errors import (
    Draining,
    ForeignOrigin,
    InvalidSession,
    PolledTooFast,
    RateLimited,
    UnknownApp,
    UnknownInvitation,
    UnknownLogin,
    UnknownScene,
    WrongAppSecret,
)
from broker.limits import RateLimit
from broker.login import Browser
from broker.records import App, Apps

log = structlog.get_logger()

USER_AGENT_MAX = 256

ADDRESSES_REMEMBERED = 4_096
"""Parsed addresses: reading one anew takes as long as reading a request's body."""

SOCKETS = "/socket.io/"
"""Where sockets are opened."""

FAILED_ATTEMPTS = (InvalidSession, UnknownInvitation, UnknownLogin, UnknownScene, WrongAppSecret)
"""Errors that a wrong secret leads to."""

APP_SHARE = 10
"""An app's own servers may open as many sessions as this many addresses."""

REGISTRATIONS = 30
"""Invitations that one person may show per minute: each asks the database."""

MINUTE = 60.0


class Origins:
    """Says whether pages of an Origin may come at all: whether any app allows it.

    Each Origin that is turned away is logged once, for the site's developer
    who forgot to name it; a made-up crowd of them is not.
    """

    REMEMBERED = 100

    def __init__(self, apps: Apps) -> None:
        self._apps = apps
        self._refused: set[str] = set()

    def __call__(self, origin: str) -> bool:
        allowed = origin in self._apps.origins()
        if not allowed and origin not in self._refused and len(self._refused) < self.REMEMBERED:
            self._refused.add(origin)
            log.warning("no app allows this Origin", origin=plain(origin, 128))
        return allowed


class Caller(NamedTuple):
    """Who asks.  origin: the page's; None where it is no page."""

    origin: str | None
    browser: Browser


Address = ipaddress.IPv4Address | ipaddress.IPv6Address

PORT = r"(?::(?:[0-9]{1,5}|_[\w.-]+))?"
NODE = re.compile(rf"\[([0-9A-Fa-f:.]+)\]{PORT}|([0-9.]+){PORT}|([0-9A-Fa-f:.]+)(?:%.*)?", re.ASCII)
"""An address as proxies write it: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`,
`[2001:db8::1]`, `[2001:db8::1]:80` (RFC 7239, 6).  Link-local ones may have a zone."""

PAIR = re.compile(
    r"""[ \t]*([\w!#$%&'*+.^`|~-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s",;]+))[ \t]*([;,]|\Z)"""
)
"""A parameter of `Forwarded` and what separates it from the next (RFC 7239, 4)."""


class Addresses:
    """Finds the address of the client behind proxies.

    trusted: addresses or networks of proxies.  Only what these add to the header is believed.
    header: the one header that the proxies set, see `FORWARDED_HEADERS`.  No other is read:
    a proxy passes on headers that it does not set as the client sent them.
    """

    def __init__(self, trusted: Iterable[str], header: str = "x-forwarded-for") -> None:
        self._trusted = [ipaddress.ip_network(network) for network in trusted]
        self._header = header
        self._hops = FORWARDED_HEADERS[header]

    def caller(self, request: web.Request) -> Caller:
        agent = plain(request.headers.get(hdrs.USER_AGENT, ""), USER_AGENT_MAX)
        return Caller(request.headers.get(hdrs.ORIGIN), Browser(self.of(request), agent))

    def of(self, request: web.Request) -> str:
        """Return the nearest address on the way here that is not a trusted proxy's.

        A hop that is not an address, such as `unknown`, hides all hops behind it: the client
        then has the address of the proxy that added it.
        """
        address = request.remote or "unknown"
        headers = request.headers.getall(self._header, ())
        for hop in reversed(self._hops(",".join(headers))) if headers else ():
            if not self._is_trusted(address) or not _parse(hop):
                break
            address = str(_parse(hop))
        return address

    def _is_trusted(self, address: str) -> bool:
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._trusted)


@lru_cache(maxsize=ADDRESSES_REMEMBERED)
def _parse(text: str) -> Address | None:
    """The address in a hop, with or without its port; None for anything else."""
    node = NODE.fullmatch(text.strip())
    try:
        address = ipaddress.ip_address(node[node.lastindex or 0] if node else "")
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _forwarded_hops(text: str) -> Sequence[str]:
    """The `for` of each element of `Forwarded`; "" where an element has none.

    Empty for a malformed header, however good its end looks: a client could otherwise open
    a quoted string that swallows the element of the proxy after it.
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
"""How the hops are read from each header that may name them, the client's first."""


async def admitted(apps: Apps, app_id: str, origin: str | None) -> App:
    """The app, if pages of `origin` may use it; a caller that is no page sends no Origin.

    Raises UnknownApp or ForeignOrigin.
    """
    app = await apps.get(app_id)
    if app is None:
        raise UnknownApp
    if origin is not None and origin not in app.origins:
        raise ForeignOrigin
    return app


@lru_cache(maxsize=ADDRESSES_REMEMBERED)
def rate_limit_key(address: str) -> str:
    """Return what is counted as one client: an IPv4 address, or the /64 of an IPv6 address."""
    parsed = _parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address


class Gate:
    """The rate limits of the public port.

    begins: logins begun, and sessions opened, per minute and address.
    misses: failed attempts per minute and address or person.
    interval: seconds between two polls of one login.
    """

    def __init__(self, *, begins: int, misses: int, interval: int) -> None:
        self._begins = RateLimit(begins, MINUTE)
        self._sessions = RateLimit(begins, MINUTE)
        self._app_sessions = RateLimit(APP_SHARE * begins, MINUTE)
        self._failures = RateLimit(misses, MINUTE)
        # A second of grace: a client's timer may be early, the network uneven.
        self._polls = RateLimit(1, max(1, interval - 1))
        self._registrations = RateLimit(REGISTRATIONS, MINUTE)
        self._closed = False

    def close(self) -> None:
        """Refuse new logins and new sockets from now on."""
        self._closed = True

    @property
    def is_open(self) -> bool:
        return not self._closed

    def check_handshake(self, request: web.Request) -> None:
        """Raises Draining for an Engine.IO handshake, a request without a `sid`, once closed.

        A load balancer then tries another instance, and so does a client that reconnects.
        """
        if self._closed and request.path == SOCKETS and "sid" not in request.query:
            raise Draining

    def count_begin(self, address: str) -> None:
        """Count a new login.  Raises RateLimited over the limit, or Draining."""
        if self._closed:
            raise Draining
        _count(self._begins, rate_limit_key(address))

    def count_session_of(self, app: App) -> None:
        """Count a session that the app's own server opens.  Raises RateLimited over the limit."""
        _count(self._app_sessions, app.id)

    @contextmanager
    def opening_session(self, address: str) -> Iterator[None]:
        """Count the session that is opened inside; one that is opened is not counted any more.

        So the limit is on proofs that the provider refuses or has not answered yet, each of
        which costs a request to it, and not on the phones behind one address.
        Raises RateLimited over the limit, before the provider is asked.
        """
        key = rate_limit_key(address)
        _count(self._sessions, key)
        yield
        self._sessions.take_back(key)

    @contextmanager
    def counting_failures(self, key: str) -> Iterator[None]:
        """Count the failed attempt inside, if it fails.  Over the limit it raises RateLimited.

        An attempt that succeeds is never refused.  key: an address or a person.
        """
        try:
            yield
        except FAILED_ATTEMPTS:
            _count(self._failures, rate_limit_key(key))
            raise

    def count_registration(self, person: str) -> None:
        """Count an invitation that a person shows.  Raises RateLimited over the limit."""
        _count(self._registrations, person)

    def count_poll(self, login_id: str) -> None:
        """Raises PolledTooFast for the second poll of a login within its interval."""
        if not self._polls.hit(login_id):
            raise PolledTooFast


def _count(limit: RateLimit, key: str) -> None:
    """Raises RateLimited over the limit."""
    if not limit.hit(key):
        raise RateLimited(limit.retry_after(key)) from None
