"""Delivery of a token."""

from __future__ import annotations

from typing import NamedTuple

from broker.infrastructure.api.responses import Payload
from broker.login.model import Login
from broker.tokens.issuer import Token


def token_response(redeemed: RedeemedLogin) -> Payload:
    """What whoever redeems a login gets, on a socket and from the token endpoint alike."""
    return {
        "access_token": redeemed.token.access_token,
        "token_type": "Bearer",
        "expires_in": redeemed.token.expires_in,
        "subject": redeemed.login.subject,
    }


class RedeemedLogin(NamedTuple):
    login: Login
    token: Token
