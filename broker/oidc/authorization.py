"""Completes authorization requests: issues codes after a scan or by single sign-on."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Callable
from typing import NamedTuple

from broker.apps.model import App
from broker.identity.model import Identity, UserProfile
from broker.identity.ports import Directory
from broker.infrastructure.clock import Clock
from broker.login.delivery import Redeemer
from broker.login.model import Browser, Login
from broker.oidc.authorization_errors import LoginRequired, OtherUser
from broker.oidc.browser_sign_ins import SID_LENGTH, BrowserSignIns, new_record_id
from broker.oidc.model import (
    ACR_MATCH,
    AuthorizationCode,
    AuthorizationRequest,
    SignIn,
    grant_of,
    hash_secret,
    subject_shard,
)
from broker.oidc.ports import AuthorizationRequests, Grants

CODE_LIFETIME = 60
"""Seconds in which an app exchanges a code. RFC 6749, section 4.1.2, allows ten minutes at most."""

Derive = Callable[..., bytes]
"""`SecretBox.derive`."""


class IssuedCode(NamedTuple):
    """An authorization code.

    cookie: the sign-in cookie to set; None to leave the cookie as it is.
    scanned_by: the identity that has signed in by a scan; None without a scan.
    """

    code: str
    cookie: str | None = None
    scanned_by: Identity | None = None


class AuthorizationService:
    """derive: computes values that only this deployment can compute, from a login and a request.

    A sign-in page may submit its form twice, because the first answer was lost. Values that are
    derived from the login are the same both times, so nothing is issued twice.
    """

    def __init__(
        self,
        *,
        requests: AuthorizationRequests,
        grants: Grants,
        sign_ins: BrowserSignIns,
        redeemer: Redeemer,
        directory: Directory,
        derive: Derive,
        clock: Clock,
    ) -> None:
        self._requests = requests
        self._grants = grants
        self._sign_ins = sign_ins
        self._redeemer = redeemer
        self._directory = directory
        self._derive = derive
        self._clock = clock

    async def find_login(self, login_id: str) -> Login | None:
        """Return a login as stored, for `complete_by_login`, which checks it."""
        return await self._redeemer.find(login_id)

    async def complete_by_login(
        self,
        request: AuthorizationRequest,
        app: App,
        *,
        found: Login | None,
        secret: str,
        browser: Browser,
        former: SignIn | None,
    ) -> IssuedCode:
        """Return the code of a confirmed login.

        found: by `find_login`.
        former: the sign-in session that the browser shares with `app`; None if there is none.
        Raises LoginRequired if the request was completed otherwise, or needs a match that the
        login does not have; OtherUser if the hint names another user; and the errors of
        `Redeemer.check` and of the directory.
        """
        login = await self._claim(request, app, found, secret)
        if request.match and login.match is None:  # begun without the request's id
            raise LoginRequired
        if request.hint_subject not in (None, login.subject):
            raise OtherUser
        assert login.phone is not None
        assert login.subject is not None
        profile = login.profile or await self._directory.find(login.phone.identity)
        cookie = self._derived("cookie", login, request) if app.sso else None
        sign_in = await self._sign_ins.of_login(
            login,
            app,
            browser,
            sid=self._derived("sid", login, request)[:SID_LENGTH],
            cookie=cookie,
            former=former,
        )
        code = self._derived("code", login, request)
        family = self._derived("family", login, request)[:SID_LENGTH]
        await asyncio.gather(
            self._sign_ins.save(sign_in),
            self._save(code, request, app, sign_in, profile, family),
        )
        return IssuedCode(code, cookie, login.phone.identity)

    async def complete_by_sign_in(
        self, request: AuthorizationRequest, app: App, sign_in: SignIn, *, is_stored: bool
    ) -> IssuedCode | None:
        """Return a code for a browser that is signed in; None if a scan is necessary.

        is_stored: whether the request was pushed. Such a request is completed once: a repeat
            needs the sign-in that completed it, and is the reload of a page.
        """
        if self._needs_scan(request, app, sign_in):
            return None
        if not await self._sign_ins.is_usable(sign_in, app):
            return None
        profile = await self._sign_ins.profile(sign_in)
        if profile is None:
            return None
        if is_stored and not await self._requests.complete(request.id, sign_in.login_id):
            return None
        code = subject_shard(sign_in.subject) + secrets.token_urlsafe(32)[1:]
        family = new_record_id(sign_in.subject)
        await asyncio.gather(
            self._sign_ins.use(sign_in, app),
            self._save(code, request, app, sign_in, profile, family),
        )
        return IssuedCode(code)

    async def _claim(
        self, request: AuthorizationRequest, app: App, found: Login | None, secret: str
    ) -> Login:
        """Redeem the login and complete the request at the same time.

        Only a login that may be redeemed completes a request. If an outage prevents one of the
        two changes, a repeat of the form makes it.
        """
        checked = self._redeemer.check(
            found, secret, app=app.id, request=request.id, began_after=request.began_at
        )
        login, is_completed = await asyncio.gather(
            self._redeemer.claim(checked, request.id),
            self._requests.complete(request.id, checked.id),
        )
        if not is_completed:
            raise LoginRequired
        return login

    def _needs_scan(self, request: AuthorizationRequest, app: App, sign_in: SignIn) -> bool:
        age = self._clock() - sign_in.auth_time
        return (
            request.prompt in ("login", "select_account")
            or (request.max_age is not None and age > request.max_age)
            or request.hint_subject not in (None, sign_in.subject)
            or ((request.match or app.match != "off") and sign_in.acr != ACR_MATCH)
        )

    def _derived(self, purpose: str, login: Login, request: AuthorizationRequest) -> str:
        """Return 43 URL-safe characters, the first of which is the subject's shard."""
        assert login.subject is not None
        digest = self._derive(purpose, login.id, request.id)
        text = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return subject_shard(login.subject) + text[1:]

    async def _save(
        self,
        code: str,
        request: AuthorizationRequest,
        app: App,
        sign_in: SignIn,
        profile: UserProfile,
        family: str,
    ) -> None:
        """Store a code, also at the same time as its sign-in session.

        The browser gets the code after both are stored.
        """
        grant = grant_of(
            sign_in,
            family=family,
            app=app,
            scope=request.scope,
            claims=request.claims,
            nonce=request.nonce,
        )
        stored = AuthorizationCode(
            grant=grant,
            redirect_uri=request.redirect_uri,
            code_challenge=request.code_challenge,
            profile=profile,
            expires_at=self._clock() + CODE_LIFETIME,
        )
        await self._grants.save_code(code[:1], hash_secret(code), stored)
