"""The code on a login's screen: drawn for it, or lent by its app's pool."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from broker.accounts import Accounts
from broker.login import REDEEM_LIFETIME, SCENE_BYTES, Lease, Login
from broker.pool import Pool
from broker.records import App


class Code(NamedTuple):
    """url: an image that an `<img>` can show.  lease: the pool's; None for one drawn live."""

    scene: str
    url: str
    lease: Lease | None = None


class CodeSource:
    """Where apps have their codes from."""

    def __init__(self, *, accounts: Accounts, pool: Pool) -> None:
        self._accounts = accounts
        self._pool = pool

    async def take(self, app: App, *, until: float) -> Code:
        """A code for a login that may be scanned until then, Unix time in seconds.

        An app whose pool has none free gets one drawn live.  Raises Unavailable where none
        can be had.
        """
        if app.code_source == "pool":
            # A confirm in the last second leaves the browser so much time to redeem.
            lent = await self._pool.lend(app.id, until=until + REDEEM_LIFETIME)
            if lent is not None:
                return Code(*lent)
        provider = await self._accounts.provider(app)
        scene = secrets.token_urlsafe(SCENE_BYTES)[: provider.scene_max]
        return Code(scene, (await provider.draw(scene)).data_url())

    async def url_of(self, login: Login, app: App) -> str:
        """The code of a login once more, as an image's URL."""
        if login.lease is not None:
            return self._pool.url_of(login.lease)
        provider = await self._accounts.provider(app)
        return (await provider.draw(login.scene)).data_url()

    async def give_back(self, login: Login) -> None:
        """The login is over, and nobody needs its code any more."""
        if login.lease is not None:
            await self._pool.give_back(login.app, login.lease, until=login.expires_at)
