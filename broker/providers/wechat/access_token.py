"""The access token: asked for once by however many need it, renewed before its end.

`stable_token` gives everybody the same token, and another in its last 5 minutes, when
both are good; so each process keeps its own copy and none has to lead.
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
"""Seconds before its end between which a token is renewed, at random: instances that
began together then do not ask together."""

REFRESH_RETRY_DELAY = 5.0
"""Seconds between two tries to renew a token that is good yet."""


class AccessTokenCache:
    """fetch: asks WeChat.  clock: seconds, from any beginning."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[FetchedToken]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._value = ""
        self._renews_at = self._ends_at = 0.0
        self._renewing: asyncio.Task[str] | None = None

    async def get(self) -> str:
        """A token that is good as far as is known; raises what `fetch` raises."""
        if self._clock() < self._renews_at:
            return self._value
        renewing = self.refresh()
        if self._clock() < self._ends_at:
            return self._value
        # Whoever stops waiting leaves the others their answer.
        return await asyncio.shield(renewing)

    async def replace_stale(self, stale: str) -> str:
        """A token in place of `stale`, which WeChat takes no longer."""
        if self._value == stale:
            self._renews_at = self._ends_at = 0.0
        return await self.get()

    def refresh(self) -> asyncio.Task[str]:
        """Begin to fetch one, unless that is under way."""
        if self._renewing is None or self._renewing.done():
            self._renews_at = min(self._clock() + REFRESH_RETRY_DELAY, self._ends_at)
            self._renewing = spawn("wechat token", self._renew(), expected=WeChatError)
        return self._renewing

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])

    async def _renew(self) -> str:
        fetched = await self._fetch()
        lead = random.uniform(REFRESH_UNTIL, REFRESH_FROM)  # noqa: S311  # no secret
        now = self._clock()
        self._value = fetched.access_token
        self._ends_at = now + fetched.expires_in
        self._renews_at = self._ends_at - min(lead, fetched.expires_in / 2)
        return self._value
