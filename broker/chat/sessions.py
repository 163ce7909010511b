"""Chat sessions: a login's token or a phone's session, which `resume` continues."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Container
from dataclasses import replace

from broker.apps.model import App
from broker.apps.origins import authorize_origin
from broker.apps.ports import Apps
from broker.apps.rules import NO_ROOMS
from broker.chat.connections import Connection, SessionKey
from broker.chat.errors import ChatDisabled, InvalidResume
from broker.chat.model import Author, ChatSession, Person
from broker.chat.ports import ChatSessionStore, LoginGrants
from broker.errors import Unavailable
from broker.identity.errors import UnregisteredUser, UserBlocked
from broker.infrastructure.clock import Clock
from broker.infrastructure.sharding import shard_of
from broker.sessions.model import SessionToken
from broker.sessions.service import SessionService
from broker.tokens.errors import InvalidToken
from broker.tokens.issuer import TokenIssuer
from broker.tokens.model import AccessGrant

EXTENSION_THRESHOLD = 0.1
"""The fraction of the lifetime by which a use must extend a session to be stored."""


class ChatSessions:
    """Opens and resumes chat sessions.

    blocked: subjects that may not chat.
    lifetime: seconds after the last use of a session.
    """

    def __init__(
        self,
        *,
        store: ChatSessionStore,
        apps: Apps,
        issuer: TokenIssuer,
        grants: LoginGrants,
        sessions: SessionService,
        blocked: Container[str],
        clock: Clock,
        lifetime: int,
    ) -> None:
        self._store = store
        self._apps = apps
        self._issuer = issuer
        self._grants = grants
        self._sessions = sessions
        self._blocked = blocked
        self._clock = clock
        self._lifetime = lifetime

    async def open_by_token(self, token: str, app_id: str | None, origin: str | None) -> Connection:
        """Open a session by an access token of the app. Raises InvalidToken and others."""
        verified = self._issuer.verify_access_token(token)
        if verified.client_id not in verified.audience or app_id not in (None, verified.client_id):
            raise InvalidToken
        app = self._app(verified.client_id, origin)
        if verified.incarnation != app.incarnation:
            raise InvalidToken
        grant = await self._grants.find(verified, app)
        return await self._open(app, verified.subject, verified.name, grant=grant)

    async def open_by_phone(self, token: SessionToken, origin: str | None) -> Connection:
        """Open a session that ends with the phone's. Raises InvalidSession and others."""
        session = await self._sessions.check(token)
        app = self._app(session.phone.app, origin)
        profile = await self._sessions.profile(session)
        if profile is None:
            raise UnregisteredUser
        return await self._open(
            app,
            profile.subject,
            profile.name,
            phone_session=session.id,
            openid=session.phone.identity.id,
        )

    async def resume(self, secret: str, origin: str | None) -> Connection:
        """Continue a session. Raises InvalidResume and others.

        A session whose login has ended is deleted, so that it stays refused.
        """
        key = _key(secret)
        session = await self._store.find(key.shard, key.secret_hash)
        if session is None:
            raise InvalidResume
        app = self._app(session.app, origin)
        if app.incarnation != session.incarnation or not await self.is_active(session):
            await self._store.end(key.shard, key.secret_hash)
            raise InvalidResume
        connection = _connection(app, session, key, secret)
        await self.extend(connection)
        return connection

    async def is_active(self, session: ChatSession) -> bool:
        """Return whether the person may log in, and the login has not ended.

        The login is the phone's session, or the grant of the token. Raises Unavailable.
        """
        if session.subject in self._blocked:
            return False
        if session.grant is not None:
            return await self._grants.is_active(session.grant, session.subject)
        phone_session = session.phone_session
        return not phone_session or await self._sessions.find(phone_session) is not None

    def is_served(self, session: ChatSession) -> bool:
        """Return whether the app still has chat rooms."""
        app = self._apps.get(session.app)
        return app is not None and app.incarnation == session.incarnation and app.rooms != NO_ROOMS

    async def extend(self, connection: Connection) -> None:
        """Count a use of the session. A failure shortens its life, and is not reported."""
        session, key = connection.session, connection.session_key
        expires_at = self._clock() + self._lifetime
        if expires_at - session.expires_at < self._lifetime * EXTENSION_THRESHOLD:
            return
        try:
            await self._store.extend(key.shard, key.secret_hash, expires_at)
        except Unavailable:
            return
        connection.session = replace(session, expires_at=expires_at)

    async def end(self, connection: Connection) -> None:
        await self._store.end(connection.session_key.shard, connection.session_key.secret_hash)

    def _app(self, app_id: str, origin: str | None) -> App:
        app = authorize_origin(self._apps, app_id, origin)
        if app.rooms == NO_ROOMS:
            raise ChatDisabled
        return app

    async def _open(
        self,
        app: App,
        subject: str,
        name: str | None,
        phone_session: str = "",
        openid: str | None = None,
        grant: AccessGrant | None = None,
    ) -> Connection:
        if subject in self._blocked:
            raise UserBlocked
        shard = shard_of(Person(app.key, subject).room.name)
        secret = shard + secrets.token_urlsafe(32)[1:]
        session = ChatSession(
            app=app.id,
            incarnation=app.incarnation,
            subject=subject,
            name=name,
            phone_session=phone_session,
            openid=openid,
            expires_at=self._clock() + self._lifetime,
            grant=grant,
        )
        key = _key(secret)
        await self._store.put(key.shard, key.secret_hash, session)
        return _connection(app, session, key, secret)


def _key(secret: str) -> SessionKey:
    return SessionKey(shard=secret[:1], secret_hash=hashlib.sha256(secret.encode()).digest())


def _connection(app: App, session: ChatSession, key: SessionKey, secret: str) -> Connection:
    return Connection(
        person=Person(app.key, session.subject),
        author=Author(session.subject, session.name),
        session=session,
        session_key=key,
        resume=secret,
    )
