"""Who holds the phone.

A phone shows the provider's one-time proof (`js_code`) once and gets a session:
an id, and an `skey` of 256 bits of which only the hash is kept.  Who the phone
is comes from its session and from nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import NamedTuple

from broker.accounts import Accounts
from broker.errors import InvalidSession
from broker.login import Phone
from broker.records import App
from broker.state import Clock, Session
from broker.state import Sessions as SessionStore


class Opened(NamedTuple):
    """A new session and the secret half that only its phone is told."""

    session: Session
    skey: str


class Sessions:
    """lifetime: of a session, in seconds."""

    def __init__(
        self, *, store: SessionStore, accounts: Accounts, clock: Clock, lifetime: int
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._clock = clock
        self.lifetime = lifetime

    async def open(self, app: App, js_code: str) -> Opened:
        """Raises InvalidSession when the provider takes `js_code` for no proof."""
        provider = await self._accounts.provider(app)
        proof = await provider.identify(js_code)
        skey = secrets.token_urlsafe(32)
        session = Session(
            id=secrets.token_urlsafe(16),
            skey_hash=_hash(skey),
            phone=Phone(app.id, proof.identity),
            expires_at=self._clock() + self.lifetime,
        )
        await self._store.put(session)
        return Opened(session, skey)

    async def check(self, session_id: str, skey: str) -> Session:
        """Raises InvalidSession: one answer, and the same work, for unknown, wrong and ended."""
        session = await self._store.get(session_id)
        expected = session.skey_hash if session else _hash("")
        if not hmac.compare_digest(expected, _hash(skey)) or session is None:
            raise InvalidSession
        return session


def _hash(skey: str) -> bytes:
    return hashlib.sha256(skey.encode()).digest()
