"""Authentication for files: a phone's session, the app's own server, or a signed URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from aiohttp import hdrs, web

from broker.apps.authentication import SERVER, AppAuthenticator, AppScopedRequest
from broker.apps.model import App
from broker.apps.ports import Apps
from broker.files.limits import PERSON_SHARE, SERVER_SHARE, SESSION_SHARE
from broker.files.model import phone_owner
from broker.files.service import Holder
from broker.infrastructure.api.endpoint import (
    BODY_OR_QUERY,
    QUERY,
    READERS,
    Auth,
    Operation,
    parser_of,
)
from broker.infrastructure.runtime.lifecycle import do_nothing
from broker.sessions.authentication import PHONE, PhoneAuthenticator, session_token_of
from broker.sessions.errors import InvalidSession
from broker.sessions.model import Session
from broker.sessions.service import SessionService

HOLDER = Auth(
    {**PHONE.schemes, **SERVER.schemes},
    alternatives=(*PHONE.alternatives, *SERVER.alternatives),
    errors=tuple(dict.fromkeys([*PHONE.errors, *SERVER.errors])),
)
"""A phone's session, or the app's own server."""

URL_OR_HOLDER = Auth(HOLDER.schemes, ((), *HOLDER.alternatives), HOLDER.errors)
"""A signed URL, which needs no credentials, or a `HOLDER`."""

SESSION_PATTERN = re.compile(r"bearer +[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}", re.IGNORECASE)
"""The credentials of a session; the admin token has another form."""


class HolderAuthenticator:
    """Authenticates phones and apps' own servers, and then calls the handler.

    The handler gets the request and the holder, and its fields in the query string.
    """

    def __init__(
        self,
        *,
        phones: PhoneAuthenticator,
        servers: AppAuthenticator,
        session_service: SessionService,
        apps: Apps,
    ) -> None:
        self._phones = phones
        self._servers = servers
        self._session_service = session_service
        self._apps = apps

    async def authenticate(self, http: web.Request, operation: Operation) -> object:
        """Call the handler of a `HOLDER` endpoint. Raises the errors of PHONE and SERVER."""
        if is_phone(http):
            handler = partial(self._call_for_phone, http, operation)
            return await self._phones.authenticate(
                http, Operation(handler, None, operation.read_payload)
            )
        handler = partial(_call_for_server, http, operation)
        parse = parser_of(AppScopedRequest)
        read = READERS[BODY_OR_QUERY if http.method == "DELETE" else QUERY]
        return await self._servers.authenticate(http, Operation(handler, parse, read))

    async def accept_url(self, http: web.Request, operation: Operation) -> object:
        """Call the handler of a `URL_OR_HOLDER` endpoint; without a holder for a signed URL."""
        if "t" in http.query:
            return await _call(http, operation, None, http.match_info)
        return await self.authenticate(http, operation)

    async def _call_for_phone(
        self, http: web.Request, operation: Operation, session: Session, **path: str
    ) -> object:
        app = self._apps.get(session.phone.app)
        if app is None:
            raise InvalidSession
        owner = phone_owner(app, session.phone)
        holder = Holder(
            app,
            owner,
            shares={session.id: SESSION_SHARE, owner.person: PERSON_SHARE},
            find_subject=partial(self._session_service.subject, session),
            check=partial(self._session_service.check, session_token_of(http)),
        )
        return await _call(http, operation, holder, path)


def is_phone(http: web.Request) -> bool:
    """Return whether the credentials are those of a session."""
    credentials = http.headers.get(hdrs.AUTHORIZATION)
    if credentials is None:
        return "X-WX-Id" in http.headers
    return SESSION_PATTERN.fullmatch(credentials.strip()) is not None


async def _call_for_server(
    http: web.Request, operation: Operation, app: App, body: AppScopedRequest, **path: str
) -> object:
    shares = {app.key: SERVER_SHARE}
    holder = Holder(app, None, shares, find_subject=do_nothing, check=do_nothing)
    return await _call(http, operation, holder, path)


async def _call(
    http: web.Request, operation: Operation, holder: Holder | None, path: Mapping[str, str]
) -> object:
    return await operation.call(http, holder, payload=http.query, path=path)
