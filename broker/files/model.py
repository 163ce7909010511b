"""Files and their owners."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import NamedTuple

from broker.apps.model import App
from broker.identity.model import Identity, Phone
from broker.sessions.model import person_key


class Owner(NamedTuple):
    """The person to whom a file belongs, or the app itself.

    app: the key of the app.
    person: see `person_key`.
    openid: the id at the provider; empty for a file of the app itself.
    subject: the token's `sub`; None if it is not known.
    """

    app: str
    person: str
    openid: str
    subject: str | None = None


def owner_of(app: App, openid: str) -> Owner:
    """Return the owner of a person's files in the app; of the app's own if `openid` is empty."""
    return phone_owner(app, Phone(app.id, Identity(app.provider, openid)))


def phone_owner(app: App, phone: Phone) -> Owner:
    return Owner(app.key, person_key(phone), phone.identity.id)


class Reservation(NamedTuple):
    """Part of a quota, held while a file arrives.

    size: in bytes.
    expires_at: Unix time in seconds, after which it no longer counts: its process has ended.
    """

    file_id: str
    owner: Owner
    size: int
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file in the store.

    id: 22 URL-safe characters.
    key: its place in the store; no part of it comes from a client.
    size: in bytes.
    media_type: of the first bytes.
    sha256: of the content, in hexadecimal.
    purpose: a word of the client for its own server; empty for none.
    name: the client's name for the file, for `Content-Disposition` only; empty for none.
    created_at, expires_at: Unix times in seconds.
    """

    id: str
    owner: Owner
    key: str
    size: int
    media_type: str
    sha256: str
    purpose: str
    name: str
    created_at: float
    expires_at: float


class ExpiredFile(NamedTuple):
    id: str
    key: str


def new_file_id() -> str:
    return secrets.token_urlsafe(16)


def new_storage_key(app_id: str, *, now: float) -> str:
    """Return `app/yyyy/mm/<128 random bits>`. No part of it comes from a client."""
    return f"{app_id}/{time.strftime('%Y/%m', time.gmtime(now))}/{secrets.token_hex(16)}"
