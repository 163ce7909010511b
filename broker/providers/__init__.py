"""Providers: each draws codes and verifies who holds the phone."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from broker.identity.model import ProviderAccount
from broker.identity.ports import Provider
from broker.infrastructure.settings import Settings

PROVIDERS: Mapping[str, str] = {
    "pretend": "broker.providers.pretend",
    "wechat": "broker.providers.wechat.provider",
}
"""The module of each provider, by name. It is imported on first use."""

NAMES = tuple(PROVIDERS)


def open_provider(settings: Settings, account: ProviderAccount) -> Provider:
    """Return the provider for an account.

    Raises ProviderUnavailable for an account that it cannot use.
    """
    module = import_module(PROVIDERS[account.provider])
    provider: Provider = module.open_provider(settings, account)
    return provider
