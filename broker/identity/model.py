"""An identity and the phone that proved it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class ProviderAccount:
    """What an app is at its provider.

    provider: its name.  app_id, secret: by which it knows the app (WeChat: AppID and
    AppSecret); empty where it knows none.
    """

    provider: str
    app_id: str = ""
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a provider says about who holds the phone.

    provider: its name, the token's `idp`.
    id: the person's id there (WeChat: `openid`), unique within provider and app.
    unionid: the person's id in all apps of one company, where the provider has one; for
        the directory.  It makes nobody somebody else: a company may bind its apps together
        while a login is under way.
    provider_app_id: within which of the provider's apps `id` is the person's (WeChat:
        `appid`); empty where the provider has no apps.
    """

    provider: str
    id: str
    unionid: str | None = field(default=None, compare=False)
    provider_app_id: str = field(default="", compare=False)


class Phone(NamedTuple):
    """Who scans: an identity that its provider has proved, within one app."""

    app: str
    identity: Identity
