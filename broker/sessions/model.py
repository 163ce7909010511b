"""Phone sessions."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import NamedTuple

from broker.identity.model import Phone
from broker.infrastructure.clock import seconds_until
from broker.infrastructure.sharding import shard_of


def session_response(opened: OpenedSession, now: float) -> dict[str, str | int]:
    """What whoever opens a session gets."""
    return {
        "id": opened.session.id,
        "skey": opened.skey,
        "expires_in": seconds_until(opened.session.expires_at, now),
    }


class OpenedSession(NamedTuple):
    """A new session and the secret half that only its phone is told."""

    session: Session
    skey: str


class SessionToken(NamedTuple):
    """A session as somebody says that they hold it."""

    id: str
    skey: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A phone's login state.

    id: public half, 22 URL-safe characters, the first of which is the person's shelf.
    skey_hash: SHA-256 of the secret half.
    expires_at: Unix time in seconds; use puts it off.
    latest_end: Unix time in seconds beyond which no use does.
    session_key: what the phone's mini program signs and encrypts with, sealed, and the
        id of the key that sealed it; None where its provider has none.
    incarnation: of the app that it was opened in.
    """

    id: str
    skey_hash: bytes = field(repr=False)
    phone: Phone
    expires_at: float
    latest_end: float
    session_key: tuple[bytes, str] | None = field(default=None, repr=False)
    incarnation: str = ""


def person_key(phone: Phone) -> str:
    """A name for who holds the phone, within one app, that tells nobody who that is."""
    parts = "\0".join((phone.app, phone.identity.provider, phone.identity.id))
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


def new_session_id(phone: Phone) -> str:
    """At least 120 random bits, behind the shelf on which all of this person's sessions lie."""
    return shard_of(person_key(phone)) + secrets.token_urlsafe(16)[1:]
