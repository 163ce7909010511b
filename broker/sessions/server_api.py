"""Sessions for an app's own servers: HTTP under /sessions, JSON in and out.

A server shows its app's id and secret (HTTP Basic, RFC 6749's client_secret_basic), or
the admin token as a bearer and names the app in the body.  Another app's session is
told exactly as one that never was.

No page comes here: nothing is said to other origins (CORS), and what carries no
credentials, all that a page of another origin could send, is not counted as a guess.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from aiohttp import web
from pydantic import StringConstraints

from broker.apps.authentication import AppCredentials, read_app_credentials
from broker.apps.errors import InvalidAppCredentials, UnknownApp
from broker.apps.model import App
from broker.apps.ports import Apps, AppSecrets
from broker.errors import InvalidRequest
from broker.identity.model import Identity, Phone
from broker.infrastructure.api.authorization import is_secret
from broker.infrastructure.api.bodies import read_json
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.responses import Payload, no_store_response
from broker.infrastructure.api.schema import AppIdField, OpenidField, RequestModel, parse
from broker.infrastructure.clock import Clock, seconds_until
from broker.sessions.authentication import SessionCredentials
from broker.sessions.limits import SessionLimits
from broker.sessions.model import Session, session_response
from broker.sessions.phone_api import JsCodeField
from broker.sessions.service import SessionService


class SessionServerAPI:
    """admin_token: speaks for every app; None where none is set."""

    def __init__(
        self,
        *,
        sessions: SessionService,
        apps: Apps,
        secrets: AppSecrets,
        limits: SessionLimits,
        failures: RateLimiter,
        addresses: ClientAddresses,
        clock: Clock,
        admin_token: str | None,
    ) -> None:
        self._sessions = sessions
        self._apps = apps
        self._secrets = secrets
        self._limits = limits
        self._failures = failures
        self._addresses = addresses
        self._clock = clock
        self._admin_token = admin_token

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/sessions", self._open),
            web.post("/sessions/check", self._check),
            web.post("/sessions/verify", self._verify),
            web.post("/sessions/decrypt", self._decrypt),
            web.post("/sessions/end", self._end),
            web.post("/sessions/end-all", self._end_all),
        ]

    async def _open(self, request: web.Request) -> web.Response:
        app, asked = await self._asked(OpenAppSessionRequest, request)
        async with self._limits.opening_for_app(app):
            opened = await self._sessions.open(app, asked.js_code)
        return no_store_response(
            {**session_response(opened, self._clock()), **await self._person(opened.session)}
        )

    async def _check(self, request: web.Request) -> web.Response:
        app, asked = await self._asked(AppSessionRequest, request)
        session = await self._sessions.check(asked.token(), app)
        end = {"expires_in": seconds_until(session.expires_at, self._clock())}
        return no_store_response({**end, **await self._person(session)})

    async def _verify(self, request: web.Request) -> web.Response:
        app, asked = await self._asked(VerifyRequest, request)
        valid = await self._sessions.is_signed(asked.token(), app, asked.raw_data, asked.signature)
        return no_store_response({"valid": valid})

    async def _decrypt(self, request: web.Request) -> web.Response:
        app, asked = await self._asked(DecryptRequest, request)
        data = await self._sessions.decrypt(asked.token(), app, asked.encrypted_data, asked.iv)
        return no_store_response({"data": data})

    async def _end(self, request: web.Request) -> web.Response:
        app, asked = await self._asked(AppSessionRequest, request)
        session = await self._sessions.check(asked.token(), app)
        return no_store_response({"ended": await self._sessions.end(session)})

    async def _end_all(self, request: web.Request) -> web.Response:
        app, asked = await self._asked(EndAllRequest, request)
        phone = Phone(app.id, Identity(app.provider, asked.openid))
        return no_store_response({"ended": await self._sessions.end_all(phone)})

    async def _person(self, session: Session) -> Payload:
        identity = session.phone.identity
        person = {
            "app": session.phone.app,
            "openid": identity.id,
            "unionid": identity.unionid,
            "subject": await self._sessions.subject(session),
        }
        return {name: value for name, value in person.items() if value is not None}

    async def _asked(self, model: type[A], request: web.Request) -> tuple[App, A]:
        """The app that the caller speaks for, and what it asks.

        Raises InvalidAppCredentials, UnknownApp or InvalidRequest; RateLimited for a guesser.
        """
        shown = read_app_credentials(request)
        with self._failures.counting_failures(self._addresses.of(request)):
            self._check_secret(shown)
        asked = parse(model, await read_json(request))
        if shown.app is not None and asked.app not in (None, shown.app):
            raise InvalidRequest("app: the credentials are another app's")
        name = shown.app or asked.app
        if name is None:
            raise InvalidRequest("app: the admin token speaks for all apps, so say which")
        app = await self._apps.get(name)
        if app is None:
            raise UnknownApp
        return app, asked

    def _check_secret(self, shown: AppCredentials) -> None:
        if shown.app is not None:
            right = self._secrets.is_api_secret(shown.app, shown.secret)
        else:
            token = self._admin_token
            right = token is not None and is_secret(shown.secret, token)
        if not right:
            raise InvalidAppCredentials


SignatureField = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]

UserDataField = Annotated[str, StringConstraints(min_length=1, max_length=16_384)]

IvField = Annotated[str, StringConstraints(min_length=24, max_length=24)]


class AppScopedRequest(RequestModel):
    """Says whose session it is about, where the caller's credentials do not."""

    app: AppIdField | None = None


A = TypeVar("A", bound=AppScopedRequest)


class OpenAppSessionRequest(AppScopedRequest):
    js_code: JsCodeField


class AppSessionRequest(AppScopedRequest, SessionCredentials):
    """A session that an app's own server was shown."""


class VerifyRequest(AppSessionRequest):
    raw_data: UserDataField
    signature: SignatureField


class DecryptRequest(AppSessionRequest):
    encrypted_data: UserDataField
    iv: IvField


class EndAllRequest(AppScopedRequest):
    openid: OpenidField
