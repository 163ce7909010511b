"""The rate limits of the public port, and the Origins that may use it.

Each limit counts events per rate-limit key: an IPv4 address, an IPv6 /64 network, a
person, an app or a login.  Counters are local to this process.

Secrets are checked before failures are counted.  A client with a correct secret is
served even if others have made many failed attempts from its address; a failed attempt
over the limit is answered with `rate_limited`.  See docs/decisions/0023-serve-correct-secrets.md.

After `close` new logins and new sockets are refused; clients with a login continue.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog
from aiohttp import web

from broker.edge.wire import plain
from broker.errors import (
    Draining,
    ForeignOrigin,
    InvalidSession,
    PolledTooFast,
    RateLimited,
    Unavailable,
    UnknownApp,
    UnknownInvitation,
    UnknownLogin,
    UnknownScene,
    WrongAppSecret,
)
from broker.limits import FairQueue, RateLimit, rate_limit_key
from broker.records import App, Apps

log = structlog.get_logger()

SOCKETS = "/socket.io/"
"""Where sockets are opened."""

FAILED_ATTEMPTS = (InvalidSession, UnknownInvitation, UnknownLogin, UnknownScene, WrongAppSecret)
"""Errors that count as failed attempts."""

APP_SHARE = 10
"""An app's own servers may open as many sessions as this number of addresses."""

PROOFS, PROOFS_SHARE = 32, 8
"""Concurrent `js_code` checks of this process, and of one address."""

PROOF_TIMEOUT = 6.0
"""Seconds that a `js_code` may wait for its turn."""

REGISTRATIONS = 30
"""Invitations that one person may send per minute: each queries the database."""

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
        self._proofs = FairQueue(share=PROOFS_SHARE, total=PROOFS, wait=PROOF_TIMEOUT)
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
        if self._closed and request.path.endswith(SOCKETS) and "sid" not in request.query:
            raise Draining

    def count_begin(self, address: str) -> None:
        """Count a new login.  Raises RateLimited over the limit, or Draining."""
        if self._closed:
            raise Draining
        _count(self._begins, rate_limit_key(address))

    @asynccontextmanager
    async def opening_session(self, address: str) -> AsyncIterator[None]:
        """Count the session request inside; a request that opens a session is uncounted.

        So the limit applies to proofs that the provider refuses or has not answered yet, each of
        which costs a request to it, and not on the phones behind one address.
        Raises RateLimited over the limit, before the provider is called, or Unavailable when
        too many wait for it.
        """
        key = rate_limit_key(address)
        _count(self._sessions, key)
        async with self._proving(key):
            yield
        self._sessions.take_back(key)

    @asynccontextmanager
    async def opening_session_of(self, app: App) -> AsyncIterator[None]:
        """Count the session that the app's own server opens inside.  Raises as above."""
        _count(self._app_sessions, app.id)
        async with self._proving(f"app {app.id}"):
            yield

    @asynccontextmanager
    async def _proving(self, key: str) -> AsyncIterator[None]:
        try:
            async with self._proofs.turn(key):
                yield
        except TimeoutError:
            raise Unavailable from None

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
        """Count an invitation that a person sends.  Raises RateLimited over the limit."""
        _count(self._registrations, person)

    def count_poll(self, login_id: str) -> None:
        """Raises PolledTooFast for the second poll of a login within its interval."""
        if not self._polls.hit(login_id):
            raise PolledTooFast


def _count(limit: RateLimit, key: str) -> None:
    """Raises RateLimited over the limit."""
    if not limit.hit(key):
        raise RateLimited(limit.retry_after(key)) from None
