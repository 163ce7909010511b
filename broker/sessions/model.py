"""Phone sessions."""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple

import msgspec

from broker.identity.model import Phone
from broker.infrastructure.sharding import shard_of


class OpenedSession(NamedTuple):
    """A new session and its `skey`, which is returned once.

    user_info: what was stored about the person; empty for nothing.
    """

    session: Session
    skey: str
    user_info: str = ""


class SessionToken(NamedTuple):
    """The session id and `skey` that a client sends. They are not verified yet."""

    id: str
    skey: str


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A phone's authenticated state.

    id: 22 URL-safe characters; the first one is the shard of the person.
    skey_hash: SHA-256 of the `skey`.
    expires_at: Unix time in seconds; each use extends it.
    latest_end: Unix time in seconds; uses do not extend the session beyond it.
    session_key: the key with which the mini program signs and encrypts, encrypted, and the id
        of the seal key; None if the provider has none.
    user_info: what the wire that opened the session stored about the person, encrypted as
        `session_key`; None if it stored nothing.
    incarnation: that of the app in which the session was opened.
    address: of the client that uses the session at the moment; empty in a stored session.
    """

    id: str
    skey_hash: bytes
    phone: Phone
    expires_at: float
    latest_end: float
    session_key: tuple[bytes, str] | None = None
    user_info: tuple[bytes, str] | None = None
    incarnation: str = ""
    address: str = ""

    def __repr__(self) -> str:
        return f"Session(id={self.id!r})"  # without secrets, for tracebacks


def person_key(phone: Phone) -> str:
    """Return a key for the person within one app. It does not reveal the identity."""
    parts = "\0".join((phone.app, phone.identity.provider, phone.identity.id))
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


def new_session_id(phone: Phone) -> str:
    """Return an id with at least 120 random bits after the shard of the person's sessions."""
    return shard_of(person_key(phone)) + secrets.token_urlsafe(16)[1:]
