"""Phone sessions: a phone proves its identity to the provider once, and then uses a session.

The phone sends the provider's one-time proof (`js_code`) and gets an `id` and an `skey`
of 256 bits, of which only the hash is stored. From then on, the session alone identifies the
person.

A session ends `lifetime` seconds after it was opened or `idle_timeout` seconds after its last
use, whichever comes first, or at once when the phone, the person or the app's server ends it.
Scan logins use sessions; sessions do not depend on scan logins.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import structlog
from msgspec.structs import replace

from broker.apps.model import App
from broker.apps.ports import Apps
from broker.errors import Unavailable
from broker.identity.errors import UnregisteredUser
from broker.identity.model import Identity, Phone, UserProfile
from broker.identity.ports import (
    Directory,
    IdentityProof,
    Provider,
    SecretText,
    UserDataVerifier,
)
from broker.identity.registry import ProviderRegistry
from broker.infrastructure.clock import Clock
from broker.infrastructure.crypto.sealing import (
    EncryptedSecret,
    SecretBox,
    SecretDecryptionFailed,
)
from broker.sessions.errors import InvalidSession, SigningUnsupported
from broker.sessions.model import OpenedSession, Session, SessionToken, new_session_id
from broker.sessions.ports import SessionStore

log = structlog.get_logger()

EXTENSION_THRESHOLD = 0.1
"""The fraction of `idle_timeout` by which a use must extend a session to be stored."""


Decrypt = Callable[[str, str], Mapping[str, object]]
"""Decrypts data and its `iv`, which were encrypted for a new session. Raises
UserDataDecryptionFailed."""

DescribeUser = Callable[[Identity, Decrypt | None], str]
"""Returns the `user_info` of a new session. Gets None if the provider does not encrypt."""

SessionEndHandler = Callable[[Phone, str | None], None]
"""Gets the person and the id of the ended session; None for all sessions of the person."""


class SessionService:
    """Opens, checks and ends sessions.

    secret_box: encrypts the `session_key`s.
    lifetime: seconds from the opening to the latest end of a session.
    idle_timeout: seconds after which an unused session ends.
    """

    def __init__(
        self,
        *,
        store: SessionStore,
        providers: ProviderRegistry,
        directory: Directory,
        apps: Apps,
        secret_box: SecretBox,
        clock: Clock,
        lifetime: int,
        idle_timeout: int,
    ) -> None:
        self._store = store
        self._providers = providers
        self._directory = directory
        self._apps = apps
        self._secret_box = secret_box
        self._clock = clock
        self._lifetime = lifetime
        self._idle_timeout = idle_timeout
        self._on_ended: list[SessionEndHandler] = []

    def on_ended(self, handler: SessionEndHandler) -> None:
        """Call `handler` after a session, or all sessions of a person, were ended by an act."""
        self._on_ended.append(handler)

    async def open(
        self, app: App, js_code: str, describe: DescribeUser | None = None
    ) -> OpenedSession:
        """Open a session. Raises InvalidProof if the provider refuses `js_code`.

        describe: its result is stored with the session. An error that it raises opens none.
        """
        provider = await self._providers.get(app)
        proof = await provider.identify(js_code)
        user_info = describe(proof.identity, _decrypt(provider, proof)) if describe else None
        phone = Phone(app.id, proof.identity)
        skey = secrets.token_urlsafe(32)
        now = self._clock()
        session = Session(
            id=new_session_id(phone),
            skey_hash=hash_skey(skey),
            phone=phone,
            expires_at=now + min(self._lifetime, self._idle_timeout),
            latest_end=now + self._lifetime,
            session_key=self._encrypt_session_key(proof, app, skey),
            user_info=self._encrypt_user_info(user_info, app, skey),
            incarnation=app.incarnation,
        )
        await self._store.put(session)
        return OpenedSession(session, skey, user_info or "")

    async def check(self, token: SessionToken, app: App | None = None) -> Session:
        """Return the session and count this as a use. app: the app that it must belong to.

        Raises InvalidSession if the session is unknown, wrong, ended or another app's, also
        if that app had the same id. The response and the work are the same in all cases.
        A session of a removed app is valid, so that logins in progress finish.
        """
        session = await self._store.get(token.id)
        expected = session.skey_hash if session else hash_skey("")
        is_right = hmac.compare_digest(expected, hash_skey(token.skey))
        if session is None or not is_right or (app is not None and session.phone.app != app.id):
            raise InvalidSession
        current = self._apps.get(session.phone.app)
        if current is not None and current.incarnation != session.incarnation:
            raise InvalidSession
        return await self._extend(session)

    async def check_with_user(self, token: SessionToken, app: App) -> tuple[Session, str | None]:
        """As `check`. Also return the session's `user_info`, or None if it has none."""
        session = await self.check(token, app)
        if session.user_info is None:
            return session, None
        return session, self._decrypt(session.user_info, _user_info_owner(app), token.skey)

    async def find(self, session_id: str) -> Session | None:
        """Return an active session by its id. This is not a use, and authenticates no client."""
        return await self._store.get(session_id)

    async def of_person(self, phone: Phone) -> Sequence[Session]:
        """Return the active sessions of a person in one app, those that end first at first."""
        found = await self._store.of_person(phone)
        return sorted(found, key=lambda session: session.expires_at)

    async def subject(self, session: Session) -> str | None:
        """Return the subject of the session's person, or None if the directory has none."""
        profile = await self.profile(session)
        return None if profile is None else profile.subject

    async def profile(self, session: Session) -> UserProfile | None:
        """Return the profile of the session's person, or None if the directory has none."""
        with suppress(UnregisteredUser):
            return await self._directory.find(session.phone.identity)
        return None

    async def is_signed(self, token: SessionToken, app: App, raw_data: str, signature: str) -> bool:
        """Return whether the mini program of this session signed `raw_data`.

        Raises InvalidSession, or SigningUnsupported if provider or session have no key.
        """
        verifier, session_key = await self._user_data_verifier(token, app)
        return verifier.is_signed(raw_data, signature, session_key)

    async def decrypt(
        self, token: SessionToken, app: App, encrypted_data: str, iv: str
    ) -> Mapping[str, object]:
        """Return the content of data that was encrypted for this session.

        Raises UserDataDecryptionFailed, InvalidSession or SigningUnsupported.
        """
        verifier, session_key = await self._user_data_verifier(token, app)
        return verifier.decrypt(encrypted_data, iv, session_key)

    async def end(self, session: Session) -> int:
        """End the session; return 0 if it has ended before, else 1."""
        return await self._end(session.phone, session.id)

    async def end_all(self, phone: Phone) -> int:
        """End all sessions of a person in the app, and return how many have ended."""
        return await self._end(phone)

    async def _end(self, phone: Phone, session_id: str | None = None) -> int:
        ended = await self._store.end(phone, session_id)
        for handler in self._on_ended:
            handler(phone, session_id)
        return ended

    async def _extend(self, session: Session) -> Session:
        later = min(session.latest_end, self._clock() + self._idle_timeout)
        if later - session.expires_at < self._idle_timeout * EXTENSION_THRESHOLD:
            return session
        try:
            is_active = await self._store.extend(session, later)
        except Unavailable:  # it is valid until its former end, and the next use tries again
            return session
        if not is_active:
            raise InvalidSession
        return replace(session, expires_at=later)

    async def _user_data_verifier(
        self, token: SessionToken, app: App
    ) -> tuple[UserDataVerifier, SecretText]:
        session = await self.check(token, app)
        provider = await self._providers.get(app)
        if provider.user_data is None or session.session_key is None:
            raise SigningUnsupported
        key = self._decrypt(session.session_key, app.id, token.skey)
        return provider.user_data, SecretText(key)

    def _decrypt(self, secret: tuple[bytes, str], owner: str, skey: str) -> str:
        """Raises InvalidSession."""
        try:
            return self._secret_box.decrypt(EncryptedSecret(*secret), owner, skey)
        except SecretDecryptionFailed:
            log.warning("session key decryption failed", app=owner)
            raise InvalidSession from None

    def _encrypt_user_info(
        self, user_info: str | None, app: App, skey: str
    ) -> tuple[bytes, str] | None:
        if user_info is None:
            return None
        return self._secret_box.encrypt(user_info, _user_info_owner(app), skey)

    def _encrypt_session_key(
        self, proof: IdentityProof, app: App, skey: str
    ) -> tuple[bytes, str] | None:
        if proof.session_key is None:
            return None
        return self._secret_box.encrypt(proof.session_key.reveal(), app.id, skey)


def _decrypt(provider: Provider, proof: IdentityProof) -> Decrypt | None:
    verifier, key = provider.user_data, proof.session_key
    if verifier is None or key is None:
        return None
    return partial(verifier.decrypt, session_key=key)


def _user_info_owner(app: App) -> str:
    """Return the name under which `user_info` is encrypted: it is never read as a key."""
    return f"{app.id}~user"


def hash_skey(skey: str) -> bytes:
    return hashlib.sha256(skey.encode()).digest()
