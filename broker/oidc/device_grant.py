"""The tokens of a login on a device whose scope has `openid` (RFC 8628)."""

from __future__ import annotations

import base64

from broker.apps.client_authentication import Client
from broker.apps.model import App
from broker.infrastructure.clock import Clock
from broker.infrastructure.crypto.sealing import SecretBox
from broker.login.delivery import RedeemedLogin, token_claims
from broker.login.errors import AlreadyRedeemed
from broker.login.model import Login
from broker.oidc.families import device_family
from broker.oidc.grants import FamilyLifetimes
from broker.oidc.model import SignIn, acr_of, grant_of, subject_shard
from broker.oidc.ports import Grants
from broker.oidc.sign_ins import SignInService
from broker.oidc.tokens import TokenIssue, TokenSetResponse, TokenSigner

PURPOSE = "device sid"


class DeviceTokens:
    """Makes the sign-in session and the tokens of a redeemed login.

    All of it is derived from the login, so a repeated delivery is the same session, the same
    family and the same access token.
    """

    def __init__(
        self,
        *,
        sign_ins: SignInService,
        grants: Grants,
        signer: TokenSigner,
        secret_box: SecretBox,
        lifetimes: FamilyLifetimes,
        clock: Clock,
    ) -> None:
        self._sign_ins = sign_ins
        self._grants = grants
        self._signer = signer
        self._secret_box = secret_box
        self._lifetimes = lifetimes
        self._clock = clock

    async def issue(self, redeemed: RedeemedLogin, client: Client) -> TokenSetResponse:
        """Return the answer of the token endpoint.

        Raises ClientSecretMissing, and AlreadyRedeemed if the tokens have been revoked.
        """
        client.require_authentication()
        login, app = redeemed.login, client.app
        assert login.profile is not None, "a confirmed login with openid has a profile"
        sign_in = self._sign_in(login, app)
        await self._sign_ins.save(sign_in)
        grant = grant_of(
            sign_in,
            family=device_family(sign_in.subject, login.id),
            app=app,
            scope=login.scope or (),
        )
        family = self._lifetimes.new_family(grant, app, self._clock())
        if not await self._grants.save(family):
            raise AlreadyRedeemed
        request = TokenIssue(
            app=app,
            family=family,
            profile=login.profile,
            scope=family.grant.scope,
            issued_at=token_claims(login).issued_at,
            token_id=login.id,
        )
        return {**self._signer.issue(request), "subject": sign_in.subject}

    def _sign_in(self, login: Login, app: App) -> SignIn:
        claims, now = token_claims(login), self._clock()
        assert login.subject is not None, "a redeemed login has a subject"
        assert login.phone is not None, "a redeemed login has a phone"
        mac = self._secret_box.derive(PURPOSE, login.id)
        sid = base64.urlsafe_b64encode(mac).decode()[:21]
        return SignIn(
            sid=subject_shard(login.subject) + sid,
            subject=login.subject,
            identity=login.phone.identity,
            app_first=app.id,
            auth_time=claims.authenticated_at,
            amr=claims.auth_methods,
            acr=acr_of(claims.auth_methods),
            login_id=login.id,
            ip=login.browser.ip,
            user_agent=login.browser.user_agent,
            apps={app.id: now},
            incarnations={app.id: app.incarnation},
            began_at=now,
            used_at=now,
            latest_end=now + self._sign_ins.lifetimes.total,
        )
