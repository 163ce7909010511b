"""The codes of logins: leased from the app's pool or drawn live."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from broker.apps.model import App, app_key
from broker.apps.rules import SCENE_PLACEHOLDER
from broker.errors import RateLimited, Unavailable
from broker.identity.registry import ProviderRegistry
from broker.infrastructure.coordination import LeaderLeases
from broker.infrastructure.fair_queue import FairQueue
from broker.infrastructure.rate_limit import RateLimit, rate_limit_key
from broker.login.model import REDEEM_LIFETIME, Login
from broker.login.ports import Images
from broker.pool.code_pool import CodePool
from broker.pool.model import SCENE_BYTES, CodeLease

DRAWS, DRAWS_SHARE = 64, 8
"""Concurrent live draws of this process, and those of one address."""

TURN_TIMEOUT = 4.0
"""Seconds that a draw may wait for its turn. The widget times out after 8."""

REDRAWS, REDRAWS_WINDOW = 3, 60.0
"""Failed draws that the page of one login may cause within a window in seconds."""

RECENT_MAX = 100
"""Images that this process stores: up to 240 KB each, so 24 MB at most."""

DRAW_LEASE_TTL = 10.0
"""Seconds in which only one instance draws a login's image. Others wait for it."""

POLL_INTERVAL = 0.2
"""Seconds between two checks for an image that another instance draws."""


class LoginCode(NamedTuple):
    """A code for a new login.

    url: the image.
    lease: the lease of a pool code; None for a code that was drawn live.
    """

    scene: str
    url: str
    lease: CodeLease | None = None


class LoginImages:
    """The images of live codes, for the page that shows a login's code again.

    The instance that draws a code remembers its image. The first other instance that needs the
    image draws it again and stores it in the state, for all loads of the page.

    instance: the name of this process.
    """

    def __init__(self, *, store: Images, leader_leases: LeaderLeases, instance: str) -> None:
        self._store = store
        self._leader_leases = leader_leases
        self._instance = instance
        self._recent: dict[str, str] = {}
        self._turns = FairQueue(share=1, wait=TURN_TIMEOUT)
        self._redraws = RateLimit(REDRAWS, REDRAWS_WINDOW)

    def remember(self, scene: str, url: str) -> None:
        """Store the image of a code that this process has drawn."""
        self._recent[scene] = url
        if len(self._recent) > RECENT_MAX:
            del self._recent[next(iter(self._recent))]

    async def get(self, login: Login, draw: Callable[[], Awaitable[str]]) -> str:
        """Return the image of the login's code; draw it only if it is not stored.

        Raises the errors of `draw`, RateLimited if drawing has failed several times, or
        Unavailable if another instance takes too long.
        """
        try:
            async with self._turns.turn(login.id):
                return self._recent.get(login.scene) or await self._load_or_draw(login, draw)
        except TimeoutError:
            raise Unavailable from None

    async def _load_or_draw(self, login: Login, draw: Callable[[], Awaitable[str]]) -> str:
        async with asyncio.timeout(TURN_TIMEOUT) as limit:
            while (url := await self._store.get(login)) is None:
                if await self._leader_leases.acquire(
                    f"image:{login.id}", self._instance, seconds=DRAW_LEASE_TTL
                ):
                    limit.reschedule(None)
                    return await self._draw(login, draw)
                await asyncio.sleep(POLL_INTERVAL)
        return url

    async def _draw(self, login: Login, draw: Callable[[], Awaitable[str]]) -> str:
        if not self._redraws.hit(login.id):
            raise RateLimited(self._redraws.retry_after(login.id))
        url = await draw()
        self.remember(login.scene, url)
        with suppress(Unavailable):  # the page can still be shown
            await self._store.put(login, url)
        return url


class CodeSource:
    """Acquires and returns the codes of logins."""

    def __init__(self, *, providers: ProviderRegistry, pool: CodePool, images: LoginImages) -> None:
        self._providers = providers
        self._pool = pool
        self._images = images
        self._draws = FairQueue(share=DRAWS_SHARE, total=DRAWS, wait=TURN_TIMEOUT)

    async def acquire(
        self, app: App, *, until: float, address: str, is_shown_again: bool
    ) -> LoginCode:
        """Return a code for a new login. If the app's pool has no free code, one is drawn live.

        until: Unix time in seconds until which the code can be scanned.
        address: of the browser; each address has a share of the concurrent draws.
        is_shown_again: whether a page is likely to request the image as well.
        Raises Unavailable if no code can be drawn.
        """
        if app.code_source == "pool":
            # A login that is confirmed in its last second can be redeemed for a further minute.
            leased = await self._pool.lease(app.key, until=until + REDEEM_LIFETIME)
            if leased is not None:
                return LoginCode(*leased)
        provider = await self._providers.get(app)
        scene = secrets.token_urlsafe(SCENE_BYTES)[: provider.scene_max]
        url = await self._draw(app, scene, address)
        if is_shown_again:
            self._images.remember(scene, url)
        return LoginCode(scene, url)

    async def url_of(self, login: Login, app: App) -> str:
        """Return the image URL of a login's code."""
        if login.lease is not None:
            return self._pool.url_of(login.lease)
        return await self._images.get(
            login, partial(self._draw, app, login.scene, login.browser.ip)
        )

    async def open_url_of(self, scene: str, app: App) -> str | None:
        """Return the URL that opens the phone app at the login with this scene, if there is one.

        It is that of the app, or of its `phone_app`, or else the link in the provider's code.
        """
        try:
            url = app.open_url or (self._providers.account_owner(app)).open_url
            if url:
                return url.replace(SCENE_PLACEHOLDER, scene)
            return (await self._providers.get(app)).link(scene)
        except Unavailable:
            return None  # the code of a pool is shown without its provider

    async def return_code(self, login: Login) -> None:
        """Return the code of a finished login to its pool."""
        if login.lease is not None:
            key = app_key(login.app, login.incarnation)
            await self._pool.return_code(key, login.lease, until=login.expires_at)

    async def _draw(self, app: App, scene: str, address: str) -> str:
        provider = await self._providers.get(app)
        try:
            async with self._draws.turn(rate_limit_key(address)):
                return (await provider.draw(scene)).data_url()
        except TimeoutError:
            raise Unavailable("too many codes are being drawn; try again") from None
