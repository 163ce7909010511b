"""Identities, and the phones and provider accounts that they belong to."""

from __future__ import annotations

import hashlib
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


@dataclass(frozen=True, slots=True, kw_only=True)
class UserProfile:
    """The answer of a directory: a subject and optional OpenID Connect claims.

    The fields are the standard claims of the same names (OpenID Connect Core, section 5.1);
    `groups` is the claim that products read for roles. A field is None if the directory does
    not know it. `email_verified` and `phone_number_verified` come from the directory only.

    subject: the token's `sub`; always the same one for a user.
    groups: at most `GROUPS_MAX` names of at most `GROUP_NAME_MAX` characters.
    """

    subject: str
    name: str | None = None
    nickname: str | None = None
    preferred_username: str | None = None
    picture: str | None = None
    locale: str | None = None
    zoneinfo: str | None = None
    email: str | None = None
    email_verified: bool | None = None
    phone_number: str | None = None
    phone_number_verified: bool | None = None
    groups: tuple[str, ...] | None = None


GROUPS_MAX, GROUP_NAME_MAX = 100, 64


def identity_key(identity: Identity) -> str:
    """Return a key of 32 characters for the identity. It does not reveal the identity."""
    parts = "\0".join((identity.provider, identity.provider_app_id, identity.id))
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


class Phone(NamedTuple):
    """A phone within one app: the identity that the provider has verified."""

    app: str
    identity: Identity
