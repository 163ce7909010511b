"""Registered users and invitations."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import NamedTuple

from broker.identity.model import Identity, UserProfile
from broker.infrastructure.api.schema import ResponseModel


def new_user_id() -> str:
    """Return an id for a user whose operator gives none."""
    return secrets.token_hex(8)


class RegisteredUser(NamedTuple):
    """The user that a phone was linked to.  name: None if the user has none."""

    subject: str
    name: str | None


class IdentityResponse(ResponseModel):
    provider: str
    provider_app_id: str
    openid: str
    unionid: str | None


class UserClaimsResponse(ResponseModel):
    """The claims of a user. null: the claim is not sent."""

    name: str | None
    nickname: str | None
    preferred_username: str | None
    picture: str | None
    locale: str | None
    zoneinfo: str | None
    email: str | None
    email_verified: bool | None
    phone_number: str | None
    phone_number_verified: bool | None
    groups: list[str] | None


class UserResponse(UserClaimsResponse):
    """The fields of a user.  created_at, changed_at: Unix time in seconds."""

    id: str
    blocked: bool
    identities: list[IdentityResponse]
    created_at: float
    changed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user in the records.  created_at, changed_at: Unix time in seconds."""

    profile: UserProfile
    blocked: bool
    identities: tuple[Identity, ...] = ()
    created_at: float
    changed_at: float

    @property
    def id(self) -> str:
        return self.profile.subject

    @property
    def name(self) -> str | None:
        return self.profile.name

    def as_dict(self) -> UserResponse:
        return {
            "id": self.id,
            "blocked": self.blocked,
            **claim_values(self.profile),
            "identities": [
                {
                    "provider": identity.provider,
                    "provider_app_id": identity.provider_app_id,
                    "openid": identity.id,
                    "unionid": identity.unionid,
                }
                for identity in self.identities
            ],
            "created_at": self.created_at,
            "changed_at": self.changed_at,
        }


def claim_values(profile: UserProfile) -> UserClaimsResponse:
    """Return the claims of a profile as JSON values."""
    return {
        "name": profile.name,
        "nickname": profile.nickname,
        "preferred_username": profile.preferred_username,
        "picture": profile.picture,
        "locale": profile.locale,
        "zoneinfo": profile.zoneinfo,
        "email": profile.email,
        "email_verified": profile.email_verified,
        "phone_number": profile.phone_number,
        "phone_number_verified": profile.phone_number_verified,
        "groups": None if profile.groups is None else list(profile.groups),
    }


INVITATION_BYTES = 22
"""176 random bits are 30 characters. With the prefix they are a scene of WeChat's codes."""

INVITATION_PREFIX = "i."
"""The beginning of a scene with an invitation. No login's scene contains a full stop."""


class Invitation(NamedTuple):
    """secret: sent by the phone, 30 URL-safe characters.  expires_in: seconds from now."""

    secret: str
    expires_in: int

    @property
    def scene(self) -> str:
        """The content of a code that a phone scans to use the invitation."""
        return f"{INVITATION_PREFIX}{self.secret}"
