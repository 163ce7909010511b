"""Back-channel logout (OpenID Connect Back-Channel Logout 1.0): notifies apps of ended sessions."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import NamedTuple, Protocol
from urllib.parse import urlencode

import structlog

from broker.apps.model import App
from broker.apps.ports import Apps
from broker.infrastructure.api.bodies import FORM_TYPE
from broker.infrastructure.clock import Clock
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.coordination import DeferredCall
from broker.infrastructure.outbound.webhook import SignedRequest, SiteClient, WebhookFailed
from broker.infrastructure.retries import CallOutcome
from broker.oidc.metrics import BACKCHANNEL
from broker.oidc.model import SignIn
from broker.oidc.ports import SignIns
from broker.tokens.issuer import TokenIssuer

log = structlog.get_logger()

KIND = "logout"

EVENT = "http://schemas.openid.net/event/backchannel-logout"

PREPARED_DELAY = 60.0
"""Seconds after which the calls of an end are due whose instance died before it announced it.
An end takes a few round trips."""

CALL_TIMEOUT = 5.0
"""Seconds for an answer of the app."""

OUTCOME_BY_STATUS: Mapping[int, CallOutcome] = {
    200: CallOutcome.DELIVERED,
    204: CallOutcome.DELIVERED,
    400: CallOutcome.REFUSED,
}
"""Any other status is a failure."""


class Logout(NamedTuple):
    """The payload of a call. The token is signed when the call is made."""

    app: str
    incarnation: str
    subject: str
    sid: str


_decode_logout = decoder(Logout)


class CallStore(Protocol):
    async def put(self, call: DeferredCall, *, delay: float = 0.0) -> None: ...


class BackchannelLogouts:
    """Puts and makes the calls to the apps of a sign-in session that has ended.

    client: sends requests to URLs of sites.
    """

    def __init__(
        self,
        *,
        calls: CallStore,
        sign_ins: SignIns,
        apps: Apps,
        issuer: TokenIssuer,
        clock: Clock,
        client: SiteClient,
    ) -> None:
        self._calls = calls
        self._sign_ins = sign_ins
        self._apps = apps
        self._issuer = issuer
        self._clock = clock
        self._client = client

    async def prepare(self, sign_in: SignIn) -> None:
        """Put the calls of a session that is about to end, due in `PREPARED_DELAY`.

        No app is called if the session is still active then. Raises Unavailable.
        """
        await self._put(sign_in, delay=PREPARED_DELAY)

    async def announce(self, sign_in: SignIn, reason: str) -> None:
        """Put a call for each app that used the session and has a URL for it.

        It replaces the prepared call. Raises Unavailable.
        """
        await self._put(sign_in, delay=0.0)
        log.info("sign-in session ended", reason=reason, apps=sorted(sign_in.apps))

    async def _put(self, sign_in: SignIn, *, delay: float) -> None:
        for app_id in sign_in.apps:
            incarnation = sign_in.incarnations.get(app_id, "")
            logout = Logout(app_id, incarnation, sign_in.subject, sign_in.sid)
            if self._app(logout) is not None:
                payload = encode(logout)
                call_id = hashlib.sha256(payload).hexdigest()[:32]  # one call for each end
                call = DeferredCall(call_id, KIND, app_id, payload.decode())
                await self._calls.put(call, delay=delay)

    async def attempt(self, call: DeferredCall) -> CallOutcome:
        """Make one attempt. An app that no longer has a URL is not called. Raises Unavailable."""
        logout = _decode_logout(call.payload.encode())
        app = self._app(logout)
        if app is None or await self._is_active(logout):
            return CallOutcome.REFUSED
        problem, outcome = "", CallOutcome.FAILED
        try:
            outcome = await self._post(app, logout)
        except TimeoutError:
            problem = f"no answer within {CALL_TIMEOUT:.0f} seconds"
        except WebhookFailed as failed:
            problem = str(failed)
        BACKCHANNEL.labels(app.id, outcome).inc()
        if outcome is not CallOutcome.DELIVERED:
            log.warning(
                "back-channel logout not accepted",
                app=app.id,
                outcome=outcome,
                attempt=call.attempt,
                reason=problem,
            )
        return outcome

    def _app(self, logout: Logout) -> App | None:
        """Return the app if it still is the same app, and has a URL for logouts."""
        app = self._apps.get(logout.app)
        if app is None or app.incarnation != logout.incarnation or not app.backchannel_logout_url:
            return None
        return app

    async def _is_active(self, logout: Logout) -> bool:
        sign_ins = await self._sign_ins.of_subject(logout.subject)
        return any(one.sid == logout.sid for one in sign_ins)

    async def _post(self, app: App, logout: Logout) -> CallOutcome:
        """Send the logout token.  Raises TimeoutError or WebhookFailed."""
        assert app.backchannel_logout_url is not None, "apps without a URL get no calls"
        body = urlencode({"logout_token": self._token(app, logout)}).encode()
        request = SignedRequest(body, {"Content-Type": FORM_TYPE})
        async with asyncio.timeout(CALL_TIMEOUT):
            response = await self._client.post(app.backchannel_logout_url, request)
        return OUTCOME_BY_STATUS.get(response.status, CallOutcome.FAILED)

    def _token(self, app: App, logout: Logout) -> str:
        claims = {
            "aud": app.id,
            "sub": logout.subject,
            "sid": logout.sid,
            "events": {EVENT: {}},
        }
        return self._issuer.issue_logout_token(
            claims,
            algorithm=app.id_token_alg,
            issued_at=int(self._issuer.issue_time(self._clock())),
        )
