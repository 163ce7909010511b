"""The claims of a user: which scope has which claims, and where their values come from.

The ID token and userinfo carry the same claims. No value is made up, with one exception: an
e-mail address of the operator's own domain, which is never marked as verified.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping

from broker.identity.model import UserProfile

SCOPE_CLAIMS: Mapping[str, tuple[str, ...]] = {
    "openid": ("sub",),
    "profile": ("preferred_username", "name", "nickname", "picture", "locale", "zoneinfo"),
    "email": ("email", "email_verified"),
    "phone": ("phone_number", "phone_number_verified"),
    "groups": ("groups",),
    "offline_access": (),
}
"""The claims of each scope (OpenID Connect Core, section 5.4)."""

ID_TOKEN_CLAIMS = (
    *("iss", "sub", "aud", "azp", "iat", "exp", "auth_time", "nonce", "sid", "amr", "acr"),
    *("at_hash", "jti"),
)
"""The claims of every ID token; `nonce` only in the first one, if the app sent it."""

Claims = dict[str, object]


class ClaimSource:
    """Computes claims from the answer of the directory.

    email_domain: of an e-mail address for users without one; None for no address.
    """

    def __init__(self, *, email_domain: str | None) -> None:
        self._email_domain = email_domain

    def user_claims(
        self, profile: UserProfile, scope: Iterable[str], requested: Iterable[str] = ()
    ) -> Claims:
        """Return the claims of the scopes, and the `requested` ones, that have a value.

        The subject is not among them.
        """
        names = dict.fromkeys(name for one in scope for name in SCOPE_CLAIMS[one])
        names.update(dict.fromkeys(requested))
        names.pop("sub", None)
        found = {name: self._value(profile, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def _value(self, profile: UserProfile, name: str) -> object:
        derive = DERIVED.get(name)
        return derive(profile, self._email_domain) if derive else getattr(profile, name)


def preferred_username(profile: UserProfile) -> str:
    """Return the name from the directory, or one that is derived from the subject.

    It is never the openid, which products with lower-case names refuse, and never a nickname,
    which a user can change to another user's name.
    """
    if profile.preferred_username is not None:
        return profile.preferred_username
    digest = hashlib.sha256(profile.subject.encode()).digest()
    return f"u-{base64.b32encode(digest).decode().lower()[:12]}"


def _username(profile: UserProfile, domain: str | None) -> str:
    return preferred_username(profile)


def _email(profile: UserProfile, domain: str | None) -> str | None:
    if profile.email is None and domain is not None:
        return f"{preferred_username(profile)}@{domain}"
    return profile.email


def _email_verified(profile: UserProfile, domain: str | None) -> bool | None:
    return None if profile.email is None else profile.email_verified


def _phone_number_verified(profile: UserProfile, domain: str | None) -> bool | None:
    return None if profile.phone_number is None else profile.phone_number_verified


def _groups(profile: UserProfile, domain: str | None) -> list[str] | None:
    return None if profile.groups is None else list(profile.groups)


DERIVED: Mapping[str, Callable[[UserProfile, str | None], object]] = {
    "preferred_username": _username,
    "email": _email,
    "email_verified": _email_verified,
    "phone_number_verified": _phone_number_verified,
    "groups": _groups,
}
"""Claims that are not a plain field of the profile."""
