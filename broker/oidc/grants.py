"""The grants of the token endpoint: an authorization code, and a refresh token.

A code works once. A refresh token is replaced with each use:

    presented n == current      n + 1 becomes current, and is returned
    presented n == current - 1  the current one is returned again, for `grace` seconds
    any other n                 stolen: the family ends
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, NoReturn, Protocol

import structlog

from broker.apps.client_authentication import Client
from broker.apps.model import App
from broker.identity.model import UserProfile
from broker.infrastructure.api.mounted import TokenGrant
from broker.infrastructure.api.schema import RequestModel, parse, sanitize_text
from broker.infrastructure.base64url import is_256_bits
from broker.infrastructure.clock import Clock
from broker.oidc.errors import InvalidGrant, InvalidScope, UnknownGrant
from broker.oidc.families import Families, is_usable
from broker.oidc.metrics import REUSED
from broker.oidc.model import AuthorizationCode, Family, Grant, hash_secret
from broker.oidc.ports import FamilyState, Grants, ReuseLog, Unusable
from broker.oidc.refresh_tokens import RefreshToken, RefreshTokens
from broker.oidc.rules import AUTHORIZATION_CODE_GRANT, REFRESH_TOKEN_GRANT
from broker.oidc.tokens import TokenIssue, TokenSetResponse, TokenSigner
from broker.tokens.issuer import TokenIssuer

log = structlog.get_logger()


class CodeTokenRequest(RequestModel):
    code: str
    redirect_uri: str
    code_verifier: str | None = None


class RefreshTokenRequest(RequestModel):
    refresh_token: str
    scope: str | None = None


class SessionEnder(Protocol):
    """Ends sign-in sessions, their families and the sessions at the apps."""

    async def end(self, subject: str, sid: str, *, offline_too: bool) -> int: ...


class FamilyLifetimes(NamedTuple):
    """Lifetimes in seconds.

    access: of an access token, and of a family without refresh tokens.
    idle, total: of a family with refresh tokens, without use and however much it is used.
    grace: in which the previous refresh token returns the same successor.
    signin_idle: of a sign-in session without use; a refresh is a use.
    """

    access: int
    idle: int
    total: int
    grace: int
    signin_idle: int

    def new_family(self, grant: Grant, app: App, now: float) -> Family:
        """Return the family of a new grant, with the first refresh token if the app gets one."""
        has_refresh = gets_refresh_token(app, grant.scope)
        idle, total = (self.idle, self.total) if has_refresh else (self.access, self.access)
        return Family(
            grant=grant,
            n=1 if has_refresh else 0,
            rotated_at=now,
            began_at=now,
            used_at=now,
            expires_at=now + min(idle, total),
            latest_end=now + total,
        )

    def rotated(self, family: Family, now: float) -> Family:
        return replace(
            family,
            n=family.n + 1,
            rotated_at=now,
            used_at=now,
            expires_at=min(now + self.idle, family.latest_end),
        )


def gets_refresh_token(app: App, scope: tuple[str, ...]) -> bool:
    """Return whether a grant of this scope has refresh tokens."""
    return app.refresh == "always" or (
        app.refresh == "offline_access" and "offline_access" in scope
    )


class CodeExchange:
    """Exchanges authorization codes (RFC 6749, section 4.1.3, and RFC 7636)."""

    def __init__(
        self,
        *,
        grants: Grants,
        signer: TokenSigner,
        issuer: TokenIssuer,
        lifetimes: FamilyLifetimes,
        clock: Clock,
    ) -> None:
        self._grants = grants
        self._signer = signer
        self._issuer = issuer
        self._lifetimes = lifetimes
        self._clock = clock

    def grant(self) -> TokenGrant:
        """Return the grant of the token endpoint."""
        return TokenGrant(AUTHORIZATION_CODE_GRANT, self.exchange)

    async def exchange(self, client: Client, form: Mapping[str, object]) -> TokenSetResponse:
        """Return the tokens of a code. The code does not work again, also after InvalidGrant.

        The step that stores the family uses the code. An exchange that got no further, because
        the state did not answer, can be repeated.
        Raises InvalidRequest, ClientSecretMissing, InvalidGrant or Unavailable.
        """
        fields = parse(CodeTokenRequest, form)
        client.require_authentication()
        code = await self._find(fields.code)
        await self._check(code, client.app, fields)
        now = self._clock()
        family = self._lifetimes.new_family(code.grant, client.app, now)
        if not await self._grants.save(family, hash_secret(fields.code)):
            await self._refuse_used(family.grant.family)
        return self._signer.issue(
            TokenIssue(
                app=client.app,
                family=family,
                profile=code.profile,
                scope=code.grant.scope,
                issued_at=int(self._issuer.issue_time(now)),
                nonce=code.grant.nonce,
            )
        )

    async def _find(self, text: str) -> AuthorizationCode:
        if not is_256_bits(text):
            raise UnknownGrant("the code was not issued here")
        found = await self._grants.find_code(text[0], hash_secret(text))
        if found.code is not None:
            return found.code
        if found.why is Unusable.USED:
            await self._refuse_used(found.family)
        if found.why is Unusable.ENDED:
            raise InvalidGrant("the sign-in session has ended")
        raise UnknownGrant("the code is unknown or expired")

    async def _check(self, code: AuthorizationCode, app: App, fields: CodeTokenRequest) -> None:
        try:
            check_code(code, app, fields)
        except InvalidGrant:
            await self._grants.use_code(fields.code[0], hash_secret(fields.code))
            raise

    async def _refuse_used(self, family_id: str) -> NoReturn:
        """End the family, because one of two clients has stolen the code (RFC 6749, 4.1.2)."""
        await self._grants.drop(family_id)
        log.warning("authorization code used again")
        raise InvalidGrant(
            "the code was used before and its tokens have ended; begin a new authorization request"
        )


def check_code(code: AuthorizationCode, app: App, fields: CodeTokenRequest) -> None:
    """Raise InvalidGrant unless the code was issued for this app and this request."""
    if (code.grant.app, code.grant.incarnation) != (app.id, app.incarnation):
        raise InvalidGrant("the code was issued to another app")
    if code.redirect_uri != fields.redirect_uri:
        raise InvalidGrant("redirect_uri is not the one of the authorization request")
    if not is_verifier(fields.code_verifier, code.code_challenge):
        raise InvalidGrant("code_verifier does not match the code_challenge")


def is_verifier(verifier: str | None, challenge: str | None) -> bool:
    """Return whether the verifier has this S256 challenge; both may be missing.

    A verifier without a challenge is refused: an attacker may have removed the challenge from
    the authorization request (RFC 9700, section 2.1.1).
    """
    if verifier is None or challenge is None:
        return verifier is challenge
    digest = hashlib.sha256(verifier.encode()).digest()
    expected = base64.urlsafe_b64encode(digest).rstrip(b"=")
    return hmac.compare_digest(expected, challenge.encode())


class RefreshExchange:
    """Exchanges refresh tokens (RFC 6749, section 6) and replaces them (RFC 9700, 4.14.2)."""

    def __init__(
        self,
        *,
        grants: Grants,
        families: Families,
        sessions: SessionEnder,
        reuse_log: ReuseLog,
        signer: TokenSigner,
        refresh_tokens: RefreshTokens,
        issuer: TokenIssuer,
        lifetimes: FamilyLifetimes,
        clock: Clock,
    ) -> None:
        self._grants = grants
        self._families = families
        self._sessions = sessions
        self._reuse_log = reuse_log
        self._signer = signer
        self._refresh_tokens = refresh_tokens
        self._issuer = issuer
        self._lifetimes = lifetimes
        self._clock = clock

    def grant(self) -> TokenGrant:
        """Return the grant of the token endpoint."""
        return TokenGrant(REFRESH_TOKEN_GRANT, self.exchange)

    async def exchange(self, client: Client, form: Mapping[str, object]) -> TokenSetResponse:
        """Return new tokens of a family.

        Raises InvalidRequest, ClientSecretMissing, InvalidGrant or InvalidScope, and
        Unavailable if the directory cannot decide; the refresh token still works then.
        """
        fields = parse(RefreshTokenRequest, form)
        client.require_authentication()
        token = self._refresh_tokens.parse(fields.refresh_token)
        if token is None:
            raise UnknownGrant("the refresh token was not issued here")
        family = await self._require_family(token, client.app)
        scope = narrowed(family.grant.scope, fields.scope)
        profile = await self._profile(family.grant)
        family = await self._rotate(family, token, client.app)
        issued_at = int(self._issuer.issue_time(self._clock()))
        return self._signer.issue(TokenIssue(client.app, family, profile, scope, issued_at))

    async def _require_family(self, token: RefreshToken, app: App) -> Family:
        state = await self._grants.get(token.family)
        if state is None or not is_usable(state, app):
            raise InvalidGrant("the refresh token has expired or was revoked")
        await self._check_number(state, token, app)
        return state.family

    async def _check_number(self, state: FamilyState, token: RefreshToken, app: App) -> None:
        """End the family if an earlier token than the previous one was presented."""
        family = state.family
        if token.n == family.n or (token.n == family.n - 1 and state.in_grace):
            return
        REUSED.labels(app.id).inc()
        login_id = family.grant.login_id
        log.warning("refresh token used again", app=app.id, login_id=login_id)
        self._reuse_log.record_reuse(
            login_id,
            app=app.id,
            incarnation=app.incarnation,
            subject=family.grant.subject,
            now=self._clock(),
        )
        await self._grants.drop(token.family)
        if app.reuse == "signin":
            grant = family.grant
            await self._sessions.end(grant.subject, grant.sid, offline_too=True)
        raise InvalidGrant("the refresh token was used before; its successors no longer work")

    async def _profile(self, grant: Grant) -> UserProfile:
        try:
            return await self._families.profile(grant)
        except InvalidGrant:
            await self._grants.drop(grant.family)
            raise

    async def _rotate(self, family: Family, token: RefreshToken, app: App) -> Family:
        """Return the family after a use of `token`. Simultaneous uses get one successor."""
        if token.n < family.n:
            return family  # a repeat within the grace time
        after = self._lifetimes.rotated(family, self._clock())
        state = await self._grants.swap(
            family, after, idle=self._lifetimes.signin_idle, grace=self._lifetimes.grace
        )
        if state is None or not is_usable(state, app):
            raise InvalidGrant("the refresh token was revoked")
        await self._check_number(state, token, app)
        return state.family


def narrowed(granted: tuple[str, ...], requested: str | None) -> tuple[str, ...]:
    """Return the requested part of the granted scope; all of it without a request.

    Raises InvalidScope for a scope that was not granted (RFC 6749, section 6).
    """
    if requested is None:
        return granted
    wanted = requested.split()
    if extra := [scope for scope in wanted if scope not in granted]:
        raise InvalidScope(f"scope: {sanitize_text(extra[0], 64)} was not granted")
    return tuple(scope for scope in granted if scope in wanted) or granted
