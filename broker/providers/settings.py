"""Settings of the provider of the app `default`, and of the pretend provider."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from broker.identity.model import ProviderAccount
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.settings import Settings, SettingsGroup, WebURL, one_of
from broker.providers import PROVIDERS


class AccountSettings(SettingsGroup):
    """The settings of a provider that has accounts."""

    def account(self) -> ProviderAccount | None:
        """Return the account of apps without their own; None if the settings have none."""
        raise NotImplementedError


class ProviderSettings(SettingsGroup):
    provider: Annotated[str, one_of(PROVIDERS)] = Field(
        "pretend",
        description="draws codes and verifies phones: "
        + " or ".join(f"`{name}`" for name in PROVIDERS),
    )
    phone_page_url: WebURL = Field(
        "http://127.0.0.1:8090/",
        max_length=500,
        description="URL that the pretend provider's codes open",
    )
    allow_pretend: bool = Field(
        False,
        description="allow the pretend provider, with which anyone can log in as anyone, on an "
        "address that other machines can reach",
    )


def is_pretend_allowed(settings: Settings) -> bool:
    """Return whether an app may use the pretend provider."""
    hosts = settings[ServerSettings].reachable_hosts()
    return settings[ProviderSettings].allow_pretend or not hosts
