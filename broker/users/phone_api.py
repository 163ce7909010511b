"""Registration of a phone's user with an invitation, over HTTP and on Socket.IO."""

from __future__ import annotations

from broker.identity.errors import UserBlocked
from broker.infrastructure.api.endpoint import Endpoint
from broker.infrastructure.api.event import Event
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.schema import RequestModel, ResponseModel, SecretField
from broker.sessions.authentication import PHONE, PHONE_NAMESPACE
from broker.sessions.model import Session, person_key
from broker.users.errors import IdentityAlreadyLinked, InvalidInvitation
from broker.users.ports import UserRegistration

REGISTRATIONS_PER_MINUTE = 30
"""Invitations that one user may send per minute: each queries the database."""


class RegisterRequest(RequestModel):
    invitation: SecretField


class RegisterResponse(ResponseModel):
    subject: str
    name: str | None


class UserPhoneAPI:
    """Makes the user of a phone the registered user whom an invitation names."""

    def __init__(self, *, registration: UserRegistration, limit: RateLimiter) -> None:
        self._registration = registration
        self._limit = limit

    async def register(self, session: Session, body: RegisterRequest) -> RegisterResponse:
        self._limit.count(person_key(session.phone))
        user = await self._registration.register(session.phone.identity, body.invitation)
        return {"subject": user.subject, "name": user.name}


ENDPOINTS = [
    Endpoint(
        "POST",
        "/phone/register",
        UserPhoneAPI.register,
        role="phone",
        auth=PHONE,
        operation_id="registerPhone",
        summary="Register the phone's user with an invitation",
        request=RegisterRequest,
        response=RegisterResponse,
        errors=(InvalidInvitation, UserBlocked, IdentityAlreadyLinked),
    ),
]

SOCKET_EVENTS = [
    Event(
        PHONE_NAMESPACE,
        "register",
        UserPhoneAPI.register,
        request=RegisterRequest,
        response=RegisterResponse,
    ),
]
