"""Registered users and invitations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from broker.identity.model import Identity
from broker.infrastructure.api.schema import ResponseModel


class RegisteredUser(NamedTuple):
    """The user that a phone was linked to.  name: None if the user has none."""

    subject: str
    name: str | None


class IdentityResponse(ResponseModel):
    provider: str
    provider_app_id: str
    openid: str
    unionid: str | None


class UserResponse(ResponseModel):
    """The fields of a user.  created_at, changed_at: Unix time in seconds."""

    id: str
    name: str | None
    blocked: bool
    identities: list[IdentityResponse]
    created_at: float
    changed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user in the records.  created_at, changed_at: Unix time in seconds."""

    id: str
    name: str | None
    blocked: bool
    identities: tuple[Identity, ...] = ()
    created_at: float
    changed_at: float

    def as_dict(self) -> UserResponse:
        return {
            "id": self.id,
            "name": self.name,
            "blocked": self.blocked,
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


class Invitation(NamedTuple):
    """secret: sent by the phone, 32 URL-safe characters.  expires_in: seconds from now."""

    secret: str
    expires_in: int
