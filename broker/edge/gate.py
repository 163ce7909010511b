"""Who knocks, and how often one address may.

Counted are begins, guesses that missed, and polls of one login.  Guesses that
missed slow their address down whatever it asks for next, so that a right guess
looks like any other.  A closed gate lets no newcomers in, and whoever is in go on.

An app's own servers have few addresses and many users.  Once they have proved
themselves only the sessions that they open are counted, by app.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import NamedTuple

import structlog
from aiohttp import hdrs, web
from limits import RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter

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
from broker.login import Browser
from broker.records import App, Apps

log = structlog.get_logger()

USER_AGENT_MAX = 256

ADDRESSES_REMEMBERED = 4_096
"""Parsed addresses: reading one anew takes as long as reading a request's body."""

SOCKETS = "/socket.io/"
"""Where sockets are opened."""

MISSES = (InvalidSession, UnknownInvitation, UnknownLogin, UnknownScene, WrongAppSecret)
"""What a wrong guess meets."""

APP_SHARE = 10
"""An app's own servers may open as many sessions as so many addresses."""


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


class Addresses:
    """Finds the address a request came from; believes `X-Forwarded-For` from `trusted` only."""

    def __init__(self, trusted: Iterable[str]) -> None:
        self._trusted = [ipaddress.ip_network(network) for network in trusted]

    def caller(self, request: web.Request) -> Caller:
        agent = plain(request.headers.get(hdrs.USER_AGENT, ""), USER_AGENT_MAX)
        return Caller(request.headers.get(hdrs.ORIGIN), Browser(self.of(request), agent))

    def of(self, request: web.Request) -> str:
        """The nearest address on the way here that is no trusted proxy's."""
        address = request.remote or "unknown"
        forwarded = request.headers.getall("X-Forwarded-For", ())
        for hop in reversed(",".join(forwarded).split(",")) if forwarded else ():
            if not self._is_trusted(address) or not _parse(hop):
                break
            address = str(_parse(hop))
        return address

    def _is_trusted(self, address: str) -> bool:
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._trusted)


@lru_cache(maxsize=ADDRESSES_REMEMBERED)
def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


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
def household(address: str) -> str:
    """What is counted as one: an IPv4 address, or the /64 that one IPv6 household is given."""
    parsed = _parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address


class Gate:
    """What one household may do.

    begins: logins begun, and sessions opened, a minute.  misses: wrong guesses a
    minute.  interval: seconds between two polls of one login.
    """

    def __init__(self, *, begins: int, misses: int, interval: int) -> None:
        self._limiter = FixedWindowRateLimiter(Counts())
        self._begins = RateLimitItemPerMinute(begins, namespace="begins")
        self._sessions = RateLimitItemPerMinute(begins, namespace="sessions")
        self._app_sessions = RateLimitItemPerMinute(APP_SHARE * begins, namespace="apps")
        self._misses = RateLimitItemPerMinute(misses, namespace="misses")
        # A second of grace: a client's timer may be early, the network uneven.
        self._polls = RateLimitItemPerSecond(1, max(1, interval - 1), namespace="polls")
        self._closed = False

    def close(self) -> None:
        """Let nobody begin from now on."""
        self._closed = True

    @property
    def is_open(self) -> bool:
        return not self._closed

    def check_handshake(self, request: web.Request) -> None:
        """Raises Draining for an Engine.IO handshake, a request without a `sid`, once closed.

        A load balancer then tries another instance, and so does a client that comes again.
        """
        if self._closed and request.path == SOCKETS and "sid" not in request.query:
            raise Draining

    async def begin(self, address: str) -> None:
        """Count a login that is begun; raises RateLimited past the limit, or Draining."""
        if self._closed:
            raise Draining
        await self._count(self._begins, address)

    async def open_session(self, address: str) -> None:
        """Count a session that is opened; raises RateLimited past the limit."""
        await self._count(self._sessions, address)

    async def open_session_of(self, app: App) -> None:
        """Count one that the app's own server opens; raises RateLimited past the limit."""
        await self._count(self._app_sessions, app.id)

    @asynccontextmanager
    async def guess(self, address: str) -> AsyncIterator[None]:
        """Count what misses inside; raises RateLimited where too much has missed already."""
        if not await self._limiter.test(self._misses, household(address)):
            raise RateLimited(await self._wait(self._misses, address))
        try:
            yield
        except MISSES:
            await self._limiter.hit(self._misses, household(address))
            raise

    async def poll(self, login_id: str) -> None:
        """Raises PolledTooFast for the second poll of a login within its interval."""
        if not await self._limiter.hit(self._polls, login_id):
            raise PolledTooFast

    async def _count(self, item: RateLimitItemPerMinute, address: str) -> None:
        if not await self._limiter.hit(item, household(address)):
            raise RateLimited(await self._wait(item, address))

    async def _wait(self, item: RateLimitItemPerMinute, address: str) -> int:
        stats = await self._limiter.get_window_stats(item, household(address))
        return max(1, round(stats.reset_time - time.time()))


class Counts(Storage):
    """Counters of this process.

    `limits` has a memory storage of its own; it walks over every counter at
    every hit, which a crowd of addresses turns against us.
    """

    STORAGE_SCHEME = None
    SWEEP_ABOVE = 10_000

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, tuple[int, float]] = {}
        self._sweep_above = self.SWEEP_ABOVE

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        count, end = self._live(key) or (0, time.time() + expiry)
        self._counts[key] = (count + amount, end)
        if len(self._counts) > self._sweep_above:
            self._sweep()
        return count + amount

    async def get(self, key: str) -> int:
        live = self._live(key)
        return live[0] if live else 0

    async def get_expiry(self, key: str) -> float:
        live = self._live(key)
        return live[1] if live else time.time()

    async def check(self) -> bool:
        return True

    async def reset(self) -> int:
        gone = len(self._counts)
        self._counts.clear()
        return gone

    async def clear(self, key: str) -> None:
        self._counts.pop(key, None)

    def _live(self, key: str) -> tuple[int, float] | None:
        entry = self._counts.get(key)
        return entry if entry and entry[1] > time.time() else None

    def _sweep(self) -> None:
        """Drop what has ended, seldom enough that a hit costs little on average."""
        now = time.time()
        self._counts = {key: entry for key, entry in self._counts.items() if entry[1] > now}
        self._sweep_above = max(self.SWEEP_ABOVE, 2 * len(self._counts))
