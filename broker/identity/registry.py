"""The providers of apps, one for each account at a provider.

An app without its own account uses the account of the settings. A provider is created on the
first use of its account, and closed after the last app with this account has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import structlog

from broker.apps.model import App
from broker.apps.ports import Apps, AppSecrets
from broker.identity.errors import (
    MISCONFIGURED_RETRY_AFTER,
    NoProviderAccount,
    ProviderUnavailable,
)
from broker.identity.model import ProviderAccount
from broker.identity.ports import Provider
from broker.infrastructure.background import spawn

log = structlog.get_logger()

CLOSE_DELAY = 10.0
"""Seconds before the provider of an unused account is closed: longer than any draw."""


ProviderFactory = Callable[[ProviderAccount], Provider]
"""Raises ProviderUnavailable for an invalid account."""


class CachedProvider(NamedTuple):
    """app: the version of the app for which its account was read."""

    app: App
    account: ProviderAccount
    provider: Provider


class ProviderRegistry:
    """Creates, returns and closes providers.

    default_accounts: the accounts of the settings, at most one for each provider.
    factories: by provider name.
    """

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
        self._defaults = {account.provider: account for account in default_accounts}
        self._factories = factories
        self._cached: dict[str, CachedProvider] = {}
        self._providers: dict[ProviderAccount, Provider] = {}
        self._closing: dict[Provider, asyncio.Task[None]] = {}
        self._lock = asyncio.Lock()
        self._logged: dict[str, App] = {}

    async def open(self) -> None:
        """Open the providers of the default accounts, which log their faults at the start."""
        for account in self._defaults.values():
            await self._open(account)

    async def close(self) -> None:
        for task in self._closing.values():
            task.cancel()
        for provider in [*self._closing, *self._providers.values()]:
            await provider.close()

    async def get(self, app: App) -> Provider:
        """Return the provider that draws the codes of `app` and verifies their phones.

        It is the provider of the app's `phone_app`, if it has one.
        Raises ProviderUnavailable if its account cannot be used, and SecretDecryptionFailed if
        the secret of the account cannot be decrypted.
        """
        owner = self.account_owner(app)
        cached = self._cached.get(owner.id)
        if cached is None or cached.app is not owner:
            async with self._lock:
                cached = await self._refresh(owner)
        return cached.provider

    def account_owner(self, app: App) -> App:
        """Return the app whose phones scan the codes of `app`: its `phone_app`, or itself.

        Raises ProviderUnavailable if there is no such app.
        """
        if not app.phone_app or app.phone_app == app.id:
            return app
        owner = self._apps.get(app.phone_app)
        if owner is None:
            raise ProviderUnavailable(
                f"the phone_app {app.phone_app!r} of the app {app.id} does not exist",
                MISCONFIGURED_RETRY_AFTER,
            )
        return owner

    async def _refresh(self, app: App) -> CachedProvider:
        try:
            account = self._account(app)
            provider = await self._open(account)
        except ProviderUnavailable as error:
            if self._logged.get(app.id) is not app:
                log.error("app provider not started", app=app.id, reason=error.reason)
                self._logged[app.id] = app
            raise
        cached = self._cached[app.id] = CachedProvider(app, account, provider)
        self._close_unused()
        return cached

    def _account(self, app: App) -> ProviderAccount:
        secret = self._secrets.provider_secret(app.id) or ""
        if app.provider_app_id or secret:
            return ProviderAccount(app.provider, app.provider_app_id, secret)
        account = self._defaults.get(app.provider)
        if account is None:
            raise NoProviderAccount(
                f"neither the app {app.id} nor the settings have an account at the provider "
                f"{app.provider}",
                MISCONFIGURED_RETRY_AFTER,
            )
        return account

    async def _open(self, account: ProviderAccount) -> Provider:
        provider = self._providers.get(account)
        if provider is None:
            create = self._factories.get(account.provider)
            if create is None:
                raise ProviderUnavailable(
                    f"there is no provider {account.provider!r}", MISCONFIGURED_RETRY_AFTER
                )
            provider = create(account)
            await provider.open()
            self._providers[account] = provider
        return provider

    def _close_unused(self) -> None:
        """Schedule the closing of providers whose account no app has any longer."""
        for app_id in [*self._cached]:
            if self._apps.get(app_id) is None:
                del self._cached[app_id]
        needed = {*self._defaults.values(), *(cached.account for cached in self._cached.values())}
        for account in self._providers.keys() - needed:
            provider = self._providers.pop(account)
            self._closing[provider] = spawn("provider close", self._close_later(provider))

    async def _close_later(self, provider: Provider) -> None:
        await asyncio.sleep(CLOSE_DELAY)
        await provider.close()
        del self._closing[provider]
