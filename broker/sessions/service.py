"""Who holds the phone, and for how long that is believed.

A phone shows the provider's one-time proof (`js_code`) once and gets a session:
an id, and an `skey` of 256 bits of which only the hash is kept.  Who the phone
is comes from its session and from nothing else.

A session ends `lifetime` seconds after its login, or `idle` seconds after its last
use, whichever comes first, or at once when its phone, its person or the app's own
server ends it.  Any server of a mini program can use it: logins on a screen need it,
and it needs nothing of them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import structlog

from broker.apps.model import App
from broker.apps.ports import Apps
from broker.errors import Unavailable
from broker.identity.errors import UnregisteredUser
from broker.identity.model import Phone
from broker.identity.ports import Directory, IdentityProof, SecretText, UserDataVerifier
from broker.identity.registry import ProviderRegistry
from broker.infrastructure.clock import Clock
from broker.infrastructure.crypto import sealing as seal
from broker.infrastructure.crypto.sealing import SecretDecryptionFailed
from broker.sessions.errors import InvalidSession, SigningUnsupported
from broker.sessions.model import OpenedSession, Session, SessionToken, new_session_id
from broker.sessions.ports import SessionStore

log = structlog.get_logger()

EXTENSION_THRESHOLD = 0.1
"""The part of `idle` by which a use must put the end off to be written down."""


class SessionService:
    """lifetime: of a session, in seconds.  idle: seconds for which it may go unused."""

    def __init__(
        self,
        *,
        store: SessionStore,
        accounts: ProviderRegistry,
        directory: Directory,
        apps: Apps,
        seal_keys: seal.SecretBox,
        clock: Clock,
        lifetime: int,
        idle: int,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._directory = directory
        self._apps = apps
        self._seal_keys = seal_keys
        self._clock = clock
        self._lifetime = lifetime
        self._idle = idle

    async def open(self, app: App, js_code: str) -> OpenedSession:
        """Raises InvalidProof if the provider refuses `js_code`."""
        provider = await self._accounts.get(app)
        proof = await provider.identify(js_code)
        phone = Phone(app.id, proof.identity)
        skey = secrets.token_urlsafe(32)
        now = self._clock()
        session = Session(
            id=new_session_id(phone),
            skey_hash=hash_skey(skey),
            phone=phone,
            expires_at=now + min(self._lifetime, self._idle),
            latest_end=now + self._lifetime,
            session_key=self._sealed(proof, app, skey),
            incarnation=app.incarnation,
        )
        await self._store.put(session)
        return OpenedSession(session, skey)

    async def check(self, shown: SessionToken, app: App | None = None) -> Session:
        """The session as it stands after this use.  app: whose it must be.

        Raises InvalidSession: one answer, and the same work, for unknown, wrong, ended
        and another app's, one that had the same id before included. A session of an app that
        was removed holds, so that logins in progress finish.
        """
        session = await self._store.get(shown.id)
        expected = session.skey_hash if session else hash_skey("")
        right = hmac.compare_digest(expected, hash_skey(shown.skey))
        if session is None or not right or (app is not None and session.phone.app != app.id):
            raise InvalidSession
        current = await self._apps.get(session.phone.app)
        if current is not None and current.incarnation != session.incarnation:
            raise InvalidSession
        return await self._used(session)

    async def subject(self, session: Session) -> str | None:
        """Who its person is here; None for somebody whom the directory does not know."""
        with suppress(UnregisteredUser):
            return await self._directory.find(session.phone.identity)
        return None

    async def is_signed(self, shown: SessionToken, app: App, raw_data: str, signature: str) -> bool:
        """Whether the mini program of this session signed `raw_data`.

        Raises InvalidSession, or SigningUnsupported where the provider does no such thing.
        """
        userinfo, session_key = await self._userinfo(shown, app)
        return userinfo.is_signed(raw_data, signature, session_key)

    async def decrypt(
        self, shown: SessionToken, app: App, encrypted_data: str, iv: str
    ) -> Mapping[str, object]:
        """What was encrypted for this session; raises UserDataDecryptionFailed, and as
        `is_signed` does.
        """
        userinfo, session_key = await self._userinfo(shown, app)
        return userinfo.decrypt(encrypted_data, iv, session_key)

    async def end(self, session: Session) -> int:
        return await self._store.end(session.phone, session.id)

    async def end_all(self, phone: Phone) -> int:
        """End every session that a person has in the app; how many there were."""
        return await self._store.end(phone)

    async def _used(self, session: Session) -> Session:
        later = min(session.latest_end, self._clock() + self._idle)
        if later - session.expires_at < self._idle * EXTENSION_THRESHOLD:
            return session
        try:
            is_kept = await self._store.extend(session, later)
        except Unavailable:  # it holds until its former end, and the next use tries again
            return session
        if not is_kept:
            raise InvalidSession
        return replace(session, expires_at=later)

    async def _userinfo(self, shown: SessionToken, app: App) -> tuple[UserDataVerifier, SecretText]:
        session = await self.check(shown, app)
        provider = await self._accounts.get(app)
        if provider.user_data is None or session.session_key is None:
            raise SigningUnsupported
        try:
            key = self._seal_keys.decrypt(
                seal.EncryptedSecret(*session.session_key), app.id, shown.skey
            )
        except SecretDecryptionFailed:
            log.warning("a session_key is sealed under a key that is not known here", app=app.id)
            raise InvalidSession from None
        return provider.user_data, SecretText(key)

    def _sealed(self, proof: IdentityProof, app: App, skey: str) -> tuple[bytes, str] | None:
        if proof.session_key is None:
            return None
        return self._seal_keys.encrypt(proof.session_key.reveal(), app.id, skey)


def hash_skey(skey: str) -> bytes:
    return hashlib.sha256(skey.encode()).digest()
