"""Authentication of phones by their session."""

from __future__ import annotations

from typing import NamedTuple

from aiohttp import web

from broker.apps.errors import OriginNotAllowed
from broker.errors import InvalidRequest, RateLimited
from broker.infrastructure.api.endpoint import Auth
from broker.infrastructure.api.schema import LoginIdField, RequestModel, SecretField, parse
from broker.sessions.errors import InvalidSession
from broker.sessions.model import SessionToken

PHONE_NAMESPACE = "/phone"

PHONE = Auth(
    {
        "session": {
            "type": "http",
            "scheme": "bearer",
            "description": "`<id>.<skey>` of the phone's session",
        },
        "sessionId": {"type": "apiKey", "in": "header", "name": "X-WX-Id"},
        "sessionSkey": {"type": "apiKey", "in": "header", "name": "X-WX-Skey"},
    },
    alternatives=(("session",), ("sessionId", "sessionSkey")),
    errors=(OriginNotAllowed, InvalidSession, RateLimited),
)
"""A phone's session."""


class PhonePeer(NamedTuple):
    """Who is at the other end of a socket; the session is checked again at each act."""

    session_token: SessionToken
    address: str


def session_token_of(request: web.Request) -> SessionToken:
    """id and skey from `Authorization: Bearer id.skey`, or from Wafer's headers."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        session_id, _, skey = bearer.strip().partition(".")
    else:
        session_id = request.headers.get("X-WX-Id", "")
        skey = request.headers.get("X-WX-Skey", "")
    try:
        return parse(SessionCredentials, {"id": session_id, "skey": skey}).token()
    except InvalidRequest:
        raise InvalidSession(
            "want `Authorization: Bearer <id>.<skey>`, or X-WX-Id and X-WX-Skey"
        ) from None


class SessionCredentials(RequestModel):
    id: LoginIdField
    skey: SecretField

    def token(self) -> SessionToken:
        return SessionToken(self.id, self.skey)
