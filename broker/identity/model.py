"""Identities, and the phones and provider accounts that they belong to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class ProviderAccount:
    """An account of an app at a provider.

    provider: the provider's name.
    app_id, secret: the app's credentials there (WeChat: AppID and AppSecret); empty if the
        provider has none.
    """

    provider: str
    app_id: str = ""
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """A user as known to a provider.

    provider: the provider's name, the token's `idp`.
    id: the user's id there (WeChat: `openid`), unique within the provider and app.
    unionid: the user's id in all apps of one company, if the provider has one. It is for the
        directory and is not compared: a company may link its apps during a login.
    provider_app_id: the provider's app in which `id` is valid (WeChat: `appid`); empty if the
        provider has no apps.
    """

    provider: str
    id: str
    unionid: str | None = field(default=None, compare=False)
    provider_app_id: str = field(default="", compare=False)


class Phone(NamedTuple):
    """A phone within one app: the identity that the provider has verified."""

    app: str
    identity: Identity
