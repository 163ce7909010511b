"""Delivery of a token."""

from __future__ import annotations

from typing import Literal, NamedTuple

from broker.infrastructure.api.schema import Count, ResponseModel
from broker.infrastructure.clock import Clock
from broker.login.errors import AlreadyRedeemed, UnknownLogin
from broker.login.metrics import REDELIVERIES
from broker.login.model import Act, Login, State
from broker.login.ports import LoginStore
from broker.login.reader import LoginReader
from broker.login.rules import next_state
from broker.login.writer import LoginWriter
from broker.tokens.issuer import Token, TokenClaims, TokenIssuer

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

DEVICE_AUTHORIZATION_PATH = "/oauth/device_authorization"


class RedeemedLogin(NamedTuple):
    login: Login
    token: Token


class Redeemer:
    """Exchanges a confirmed login and its secret for a token."""

    def __init__(
        self,
        *,
        logins: LoginStore,
        reader: LoginReader,
        writer: LoginWriter,
        issuer: TokenIssuer,
        clock: Clock,
    ) -> None:
        self._logins = logins
        self._reader = reader
        self._writer = writer
        self._issuer = issuer
        self._clock = clock

    async def find(self, login_id: str) -> Login | None:
        """Return a login as stored, for `check`; the caller may not use it before."""
        return await self._logins.get(login_id)

    def check(
        self, login: Login | None, secret: str, *, app: str, request: str, began_after: float
    ) -> Login:
        """Return a login that `claim` can redeem now for this authorization request.

        The login belongs to the request, or it has none and began at `began_after` or later.
        Raises the errors of `redeem`; AlreadyRedeemed for a login of another request.
        """
        found = self._reader.check_secret(login, secret, app=app)
        self._reader.record_if_expired(found)
        if not found.request and found.began_at < began_after:
            raise UnknownLogin
        next_state(found, Act.REDEEM, now=self._clock(), request=request)
        return found

    async def claim(self, checked: Login, request: str) -> Login:
        """Redeem a login of `check` for an authorization request, and return it as stored.

        A repeat within `REDELIVERY_LIFETIME` with the same request returns the same login.
        Raises the errors of `check`, if the login was changed since.
        """
        return await self._redeem(checked, request=request)

    async def redeem(self, login_id: str, secret: str, *, app: str) -> RedeemedLogin:
        """Return the token of a confirmed login.

        A repeat within `REDELIVERY_LIFETIME` returns a token with the same `jti`, `iat` and
        `exp`, from any instance and over any transport, because only the client knows whether
        it received the first answer. Later repeats raise AlreadyRedeemed.
        """
        before = await self._reader.require_by_secret(login_id, secret, app=app)
        self._reader.record_if_expired(before)
        login = await self._redeem(before)
        token = self._issuer.issue(token_claims(login))
        if token.expires_in <= 0:
            raise AlreadyRedeemed
        if before.state is State.REDEEMED:
            REDELIVERIES.inc()
        return RedeemedLogin(login, token)

    async def _redeem(self, before: Login, *, request: str = "") -> Login:
        issued_at = self._issuer.issue_time(self._clock())
        login = await self._writer.apply_and_store(
            before, Act.REDEEM, issued_at=issued_at, request=request
        )
        await self._logins.secure(login)
        return login


def token_claims(login: Login) -> TokenClaims:
    """Return the claims of a redeemed login's token.

    They depend only on the login, so a token that is issued again is the same token.
    """
    if login.phone is None or login.confirmed_at is None or login.redeemed_at is None:
        raise ValueError(f"login {login.id} is not redeemed")
    return TokenClaims(
        id=login.id,
        subject=login.subject,
        client_id=login.app,
        issued_at=int(login.redeemed_at),
        authenticated_at=int(login.confirmed_at),
        auth_methods=login.auth_methods,
        provider=login.phone.identity.provider,
        incarnation=login.incarnation,
        name=login.name,
    )


class TokenResponse(ResponseModel):
    """The answer to `redeem`, on a socket and from the token endpoint."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: Count
    subject: str


def token_response(redeemed: RedeemedLogin) -> TokenResponse:
    assert redeemed.login.subject is not None, "a redeemed login has a subject"
    return {
        "access_token": redeemed.token.access_token,
        "token_type": "Bearer",
        "expires_in": redeemed.token.expires_in,
        "subject": redeemed.login.subject,
    }
