"""The access token of one mini program, fetched once for all callers and refreshed in time.

`stable_token` returns the same token to every caller. In a token's last 5 minutes it returns
the next one, and both are valid. So each process keeps its own copy, and no leader is needed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from broker.infrastructure.background import spawn
from broker.providers.wechat.client import WeChatError
from broker.providers.wechat.endpoints import FetchedToken

REFRESH_FROM, REFRESH_UNTIL = 240.0, 60.0
"""Seconds before the end of a token between which it is refreshed. The time is random, so that
instances that started together do not refresh together."""

REFRESH_RETRY_DELAY = 5.0
"""Seconds between two attempts to refresh a token that is still valid."""


class AccessTokenCache:
    """Holds one access token.

    fetch: requests a token from WeChat.
    clock: monotonic time in seconds.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[FetchedToken]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._value = ""
        self._refresh_at = self._expires_at = 0.0
        self._refreshing: asyncio.Task[str] | None = None

    async def get(self) -> str:
        """Return a token that is valid as far as is known. Raises what `fetch` raises."""
        if self._clock() < self._refresh_at:
            return self._value
        refreshing = self.refresh()
        if self._clock() < self._expires_at:
            return self._value
        # A caller that is cancelled does not cancel the request of the others.
        return await asyncio.shield(refreshing)

    async def replace_stale(self, stale: str) -> str:
        """Return another token than `stale`, which WeChat has refused."""
        if self._value == stale:
            self._refresh_at = self._expires_at = 0.0
        return await self.get()

    def refresh(self) -> asyncio.Task[str]:
        """Start to fetch a token unless a fetch is in progress."""
        if self._refreshing is None or self._refreshing.done():
            self._refresh_at = min(self._clock() + REFRESH_RETRY_DELAY, self._expires_at)
            self._refreshing = spawn("wechat token", self._fetch_and_store(), expected=WeChatError)
        return self._refreshing

    async def close(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])

    async def _fetch_and_store(self) -> str:
        fetched = await self._fetch()
        lead = random.uniform(REFRESH_UNTIL, REFRESH_FROM)  # noqa: S311  # no secret
        now = self._clock()
        self._value = fetched.access_token
        self._expires_at = now + fetched.expires_in
        self._refresh_at = self._expires_at - min(lead, fetched.expires_in / 2)
        return self._value
