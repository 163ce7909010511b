"""Sessions for an app's own servers: HTTP under /sessions, JSON in and out.

A server shows its app's id and secret (HTTP Basic, RFC 6749's client_secret_basic), or
the admin token as a bearer and names the app in the body.  Another app's session is
told exactly as one that never was.

No page comes here: nothing is said to other origins (CORS), and what carries no
credentials, all that a page of another origin could send, is not counted as a guess.
"""

from __future__ import annotations

import base64
from typing import NamedTuple, TypeVar

from aiohttp import hdrs, web

from broker.edge.addresses import Addresses
from broker.edge.gate import Gate
from broker.edge.wire import (
    AppSession,
    EncryptedData,
    OfApp,
    OpenAppSession,
    Person,
    SignedData,
    Wire,
    is_secret,
    json_body,
    private,
    read,
    seconds_until,
    session_answer,
)
from broker.errors import InvalidRequest, UnknownApp, WrongAppSecret
from broker.login import Identity, Phone
from broker.records import App, Apps, AppSecrets
from broker.sessions import Sessions
from broker.state import Clock, Session

A = TypeVar("A", bound=OfApp)


class Credentials(NamedTuple):
    """app: None for whoever shows the admin token, and may speak for all of them."""

    app: str | None
    secret: str


class SessionsEdge:
    """admin_token: speaks for every app; None where none is set."""

    def __init__(
        self,
        *,
        sessions: Sessions,
        apps: Apps,
        secrets: AppSecrets,
        gate: Gate,
        addresses: Addresses,
        clock: Clock,
        admin_token: str | None,
    ) -> None:
        self._sessions = sessions
        self._apps = apps
        self._secrets = secrets
        self._gate = gate
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
        app, asked = await self._asked(OpenAppSession, request)
        async with self._gate.opening_session_of(app):
            opened = await self._sessions.open(app, asked.js_code)
        return private(
            {**session_answer(opened, self._clock()), **await self._person(opened.session)}
        )

    async def _check(self, request: web.Request) -> web.Response:
        app, asked = await self._asked(AppSession, request)
        session = await self._sessions.check(asked.shown(), app)
        end = {"expires_in": seconds_until(session.expires_at, self._clock())}
        return private({**end, **await self._person(session)})

    async def _verify(self, request: web.Request) -> web.Response:
        app, asked = await self._asked(SignedData, request)
        valid = await self._sessions.is_signed(asked.shown(), app, asked.raw_data, asked.signature)
        return private({"valid": valid})

    async def _decrypt(self, request: web.Request) -> web.Response:
        app, asked = await self._asked(EncryptedData, request)
        data = await self._sessions.decrypt(asked.shown(), app, asked.encrypted_data, asked.iv)
        return private({"data": data})

    async def _end(self, request: web.Request) -> web.Response:
        app, asked = await self._asked(AppSession, request)
        session = await self._sessions.check(asked.shown(), app)
        return private({"ended": await self._sessions.end(session)})

    async def _end_all(self, request: web.Request) -> web.Response:
        app, asked = await self._asked(Person, request)
        phone = Phone(app.id, Identity(app.provider, asked.openid))
        return private({"ended": await self._sessions.end_all(phone)})

    async def _person(self, session: Session) -> Wire:
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

        Raises WrongAppSecret, UnknownApp or InvalidRequest; RateLimited for a guesser.
        """
        shown = _credentials(request)
        with self._gate.counting_failures(self._addresses.of(request)):
            self._check_secret(shown)
        asked = read(model, await json_body(request))
        if shown.app is not None and asked.app not in (None, shown.app):
            raise InvalidRequest("app: the credentials are another app's")
        name = shown.app or asked.app
        if name is None:
            raise InvalidRequest("app: the admin token speaks for all apps, so say which")
        app = await self._apps.get(name)
        if app is None:
            raise UnknownApp
        return app, asked

    def _check_secret(self, shown: Credentials) -> None:
        if shown.app is not None:
            right = self._secrets.is_api_secret(shown.app, shown.secret)
        else:
            token = self._admin_token
            right = token is not None and is_secret(shown.secret, token)
        if not right:
            raise WrongAppSecret


def _credentials(request: web.Request) -> Credentials:
    """Raises WrongAppSecret where there are none that can be read."""
    scheme, _, shown = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer":
        return Credentials(None, shown.strip())
    try:
        text = base64.b64decode(shown.strip(), validate=True).decode()
    except ValueError:
        raise WrongAppSecret from None
    app, colon, secret = text.partition(":")
    if scheme.lower() != "basic" or not (app and colon):
        raise WrongAppSecret
    return Credentials(app, secret)
