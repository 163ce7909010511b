"""The providers of apps: one for each account that apps have there.

An app without an account of its own uses the settings'.  A provider is made when its
account is first asked for, and closed once no app has that account any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import structlog

from broker.apps.model import App
from broker.apps.ports import Apps, AppSecrets
from broker.identity.errors import MISCONFIGURED_RETRY_AFTER, ProviderUnavailable
from broker.identity.model import ProviderAccount
from broker.identity.ports import Provider
from broker.infrastructure.background import spawn

log = structlog.get_logger()

CLOSE_DELAY = 10.0
"""Seconds until the provider of a former account is closed: longer than any draw that is
under way there."""


ProviderFactory = Callable[[ProviderAccount], Provider]
"""Raises ProviderUnavailable for an account that cannot be one."""


class CachedProvider(NamedTuple):
    """app: as it was when its account was looked up."""

    app: App
    account: ProviderAccount
    provider: Provider


class ProviderRegistry:
    """own: the settings' accounts.  makers: how each provider is made, by name."""

    def __init__(
        self,
        *,
        apps: Apps,
        secrets: AppSecrets,
        default_accounts: Collection[ProviderAccount],
        factories: Mapping[str, ProviderFactory],
    ) -> None:
        self._apps = apps
        self._secrets = secrets
        self._own = {account.provider: account for account in default_accounts}
        self._makers = factories
        self._known: dict[str, CachedProvider] = {}
        self._providers: dict[ProviderAccount, Provider] = {}
        self._former: dict[Provider, asyncio.Task[None]] = {}
        self._changing = asyncio.Lock()
        self._told: dict[str, App] = {}

    async def open(self) -> None:
        """Open the providers of the settings' accounts: what is wrong is logged from the start."""
        for account in self._own.values():
            await self._open(account)

    async def close(self) -> None:
        for task in self._former.values():
            task.cancel()
        for provider in [*self._former, *self._providers.values()]:
            await provider.close()

    async def get(self, app: App) -> Provider:
        """Who draws the codes of `app` and proves its phones.

        Raises ProviderUnavailable where its account cannot be used, SecretDecryptionFailed
        where its
        secret cannot be read.
        """
        known = self._known.get(app.id)
        if known is None or known.app is not app:
            async with self._changing:
                known = await self._look(app)
        return known.provider

    async def _look(self, app: App) -> CachedProvider:
        try:
            account = self._account(app)
            provider = await self._open(account)
        except ProviderUnavailable as error:
            if self._told.get(app.id) is not app:
                log.error("an app has no provider", app=app.id, reason=error.reason)
                self._told[app.id] = app
            raise
        known = self._known[app.id] = CachedProvider(app, account, provider)
        await self._tidy()
        return known

    def _account(self, app: App) -> ProviderAccount:
        secret = self._secrets.provider_secret(app.id) or ""
        if app.provider_app_id or secret:
            return ProviderAccount(app.provider, app.provider_app_id, secret)
        default_accounts = self._own.get(app.provider)
        if default_accounts is None:
            raise ProviderUnavailable(
                f"neither the app {app.id} nor the settings have an account at the provider "
                f"{app.provider}",
                MISCONFIGURED_RETRY_AFTER,
            )
        return default_accounts

    async def _open(self, account: ProviderAccount) -> Provider:
        provider = self._providers.get(account)
        if provider is None:
            make = self._makers.get(account.provider)
            if make is None:
                raise ProviderUnavailable(
                    f"there is no provider {account.provider!r}", MISCONFIGURED_RETRY_AFTER
                )
            provider = make(account)
            await provider.open()
            self._providers[account] = provider
        return provider

    async def _tidy(self) -> None:
        """Close, soon, the providers of accounts that no app has any more."""
        for app_id in [*self._known]:
            if await self._apps.get(app_id) is None:
                del self._known[app_id]
        needed = {*self._own.values(), *(known.account for known in self._known.values())}
        for account in self._providers.keys() - needed:
            provider = self._providers.pop(account)
            self._former[provider] = spawn("provider close", self._close_later(provider))

    async def _close_later(self, provider: Provider) -> None:
        await asyncio.sleep(CLOSE_DELAY)
        await provider.close()
        del self._former[provider]
