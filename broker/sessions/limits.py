"""Rate limits of new sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.apps.model import App
from broker.errors import Unavailable
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.fair_queue import FairQueue
from broker.infrastructure.rate_limit import rate_limit_key

APP_SERVER_FACTOR = 10
"""An app's own servers may open as many sessions as this number of addresses."""

PROOFS, PROOFS_SHARE = 32, 8
"""Concurrent `js_code` checks of this process, and of one address."""

PROOF_TIMEOUT = 6.0
"""Seconds that a `js_code` may wait for its turn."""


class SessionLimits:
    """Limits `js_code` checks: each may cost a request to the provider.

    per_minute: session requests per client address.
    """

    def __init__(self, *, per_minute: int) -> None:
        self._phones = RateLimiter(per_minute)
        self._apps = RateLimiter(APP_SERVER_FACTOR * per_minute)
        self._proofs = FairQueue(share=PROOFS_SHARE, total=PROOFS, wait=PROOF_TIMEOUT)

    @asynccontextmanager
    async def opening(self, address: str) -> AsyncIterator[None]:
        """Count the session request inside; a request that opens a session is uncounted.

        The limit therefore applies to requests that the provider refuses or has not answered
        yet, and not to the number of phones behind one address.
        Raises RateLimited over the limit, before the provider is called, and Unavailable if
        the request gets no turn within `PROOF_TIMEOUT`.
        """
        self._phones.count(address)
        async with self._proving(rate_limit_key(address)):
            yield
        self._phones.take_back(address)

    @asynccontextmanager
    async def opening_for_app(self, app: App) -> AsyncIterator[None]:
        """Count the session request inside, which the app's own server sends.  Raises as above."""
        self._apps.count(app.id)
        async with self._proving(f"app {app.id}"):
            yield

    @asynccontextmanager
    async def _proving(self, key: str) -> AsyncIterator[None]:
        try:
            async with self._proofs.turn(key):
                yield
        except TimeoutError:
            raise Unavailable from None
