"""The tokens of a login on a device whose scope has `openid` (RFC 8628)."""

from __future__ import annotations

import base64

from broker.apps.client_authentication import Client
from broker.infrastructure.clock import Clock
from broker.infrastructure.crypto.sealing import SecretBox
from broker.login.delivery import RedeemedLogin, token_claims
from broker.login.errors import AlreadyRedeemed
from broker.login.model import Login
from broker.oidc.browser_sign_ins import SID_LENGTH
from broker.oidc.families import login_family
from broker.oidc.grants import FamilyLifetimes
from broker.oidc.model import grant_of, subject_shard
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
        sign_in = self._sign_ins.of_login(login, app, login.browser, sid=self._sid(login))
        await self._sign_ins.save(sign_in)
        grant = grant_of(
            sign_in,
            family=login_family(sign_in.subject, login.id),
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

    def _sid(self, login: Login) -> str:
        assert login.subject is not None, "a redeemed login has a subject"
        mac = self._secret_box.derive(PURPOSE, login.id)
        sid = base64.urlsafe_b64encode(mac).decode()[: SID_LENGTH - 1]
        return subject_shard(login.subject) + sid
