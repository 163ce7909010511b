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

from aiohttp import web

from broker.apps.errors import InvalidAppCredentials
from broker.apps.model import App
from broker.errors import RateLimited, Unavailable
from broker.infrastructure.fair_queue import FairQueue
from broker.infrastructure.rate_limit import RateLimit, rate_limit_key
from broker.infrastructure.runtime.drain import SOCKET_IO_PATH, InstanceDraining
from broker.login.errors import PolledTooFast, UnknownLogin, UnknownScene
from broker.sessions.errors import InvalidSession
from broker.sessions.limits import APP_SERVER_FACTOR
from broker.users.errors import InvalidInvitation

FAILED_ATTEMPTS = (
    InvalidSession,
    InvalidInvitation,
    UnknownLogin,
    UnknownScene,
    InvalidAppCredentials,
)
"""Errors that count as failed attempts."""

PROOFS, PROOFS_SHARE = 32, 8
"""Concurrent `js_code` checks of this process, and of one address."""

PROOF_TIMEOUT = 6.0
"""Seconds that a `js_code` may wait for its turn."""

REGISTRATIONS = 30
"""Invitations that one person may send per minute: each queries the database."""

MINUTE = 60.0


class RateLimiter:
    """The rate limits of the public port.

    begins: logins begun, and sessions opened, per minute and address.
    misses: failed attempts per minute and address or person.
    interval: seconds between two polls of one login.
    """

    def __init__(self, *, begins_per_minute: int, failures_per_minute: int, interval: int) -> None:
        self._begins = RateLimit(begins_per_minute, MINUTE)
        self._sessions = RateLimit(begins_per_minute, MINUTE)
        self._app_sessions = RateLimit(APP_SERVER_FACTOR * begins_per_minute, MINUTE)
        self._failures = RateLimit(failures_per_minute, MINUTE)
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
        """Raise InstanceDraining for an Engine.IO handshake (a request without `sid`) once closed.

        A load balancer then tries another instance, and so does a client that reconnects.
        """
        if self._closed and request.path.endswith(SOCKET_IO_PATH) and "sid" not in request.query:
            raise InstanceDraining

    def count_begin(self, address: str) -> None:
        """Count a new login.  Raises RateLimited over the limit, or Draining."""
        if self._closed:
            raise InstanceDraining
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
