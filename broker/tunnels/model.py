"""Tunnels, and what passes through them. Pure values."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from broker.apps.model import app_key
from broker.infrastructure.sharding import SHARDS

NATIVE = "native"
"""The `api` of a tunnel that `POST /tunnels` created."""

WAFER = "wafer"
"""The `api` of a tunnel that Wafer's `POST /get/wsurl` created. It ends with its socket."""

META_MAX_BYTES = 4096
FRAME_MAX_BYTES = 64 * 1024

NETWORK_LOST = 1006
"""The `code` of a close whose socket ended without a close frame (RFC 6455, section 7.4.1)."""


class TunnelState(StrEnum):
    OPEN = "open"
    AWAY = "away"


class ClosedBy(StrEnum):
    """The cause of an end: the field `by` of `tunnel.close`."""

    CLIENT = "client"
    SERVER = "server"
    NETWORK = "network"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """The record of a tunnel. Times are Unix seconds.

    id: 22 URL-safe characters; the first one is the tunnel's shard.
    app, incarnation: of the app whose backend it belongs to.
    api: the API of the call that created it, which decides the frames and callbacks.
    callback_url: of this tunnel; empty for the app's own URL.
    subject, openid: of the person, as the backend sees them; empty if unknown.
    session, person: the id of the phone session and its `person_key`; empty without a session.
    meta: a JSON object as text, at most `META_MAX_BYTES`.
    resume_hash: SHA-256 of the resume secret; empty before the ticket is used.
    attachment: rises with each connection, and when the instance of one seems to have ended; 0
        before the ticket is used.
    version: how often the record was changed; 0 before the ticket is used.
    instance: the instance that holds the socket, or held it last.
    epoch: names the numbering of offsets. It changes if offsets were lost.
    seen_at: the client's last frame, with a precision of a minute.
    due_at: when a job must look at the tunnel: the end of an away tunnel, or the end of the
        session as last read; 0 for never.
    lost_by: why an away tunnel lost its socket: `network` or `drain`.
    """

    id: str
    app: str
    incarnation: str = ""
    api: str = NATIVE
    callback_url: str = ""
    subject: str = ""
    openid: str = ""
    session: str = ""
    person: str = ""
    meta: str = "{}"
    groups: tuple[str, ...] = ()
    resume_hash: bytes = field(default=b"", repr=False)
    state: TunnelState = TunnelState.OPEN
    attachment: int = 0
    version: int = 0
    instance: str = ""
    epoch: str = ""
    opened_at: float = 0.0
    seen_at: float = 0.0
    due_at: float = 0.0
    lost_by: ClosedBy = ClosedBy.NETWORK

    @property
    def owner(self) -> str:
        """The key of the app. An app that was added again under its id is another owner."""
        return app_key(self.app, self.incarnation)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedTunnel:
    """A tunnel that has ended, and what `tunnel.close` says about it.

    tunnel: the record as it was.
    seq: the number of the callback `tunnel.close`; 0 if none is sent, because the backend has
        not accepted the tunnel.
    code: the WebSocket close code; `NETWORK_LOST` if the socket was lost.
    """

    tunnel: Tunnel
    seq: int
    code: int
    reason: str
    by: ClosedBy


class StoredMessage(NamedTuple):
    """A pushed message.  offset: 1 for the tunnel's first.  data: JSON text in UTF-8."""

    offset: int
    data: bytes


class SocketPeer(NamedTuple):
    """The client of a handshake."""

    ip: str
    user_agent: str


class Opening(NamedTuple):
    """The client of a `tunnel.open`.  resumed: whether the tunnel was open before."""

    ip: str
    user_agent: str
    resumed: bool


class AcceptedOpening(NamedTuple):
    """The backend's answer to `tunnel.open`. None leaves a field as it is.

    meta: a JSON object as text.
    """

    meta: str | None = None
    groups: tuple[str, ...] | None = None
    subject: str | None = None


class CloseRequest(NamedTuple):
    """Code and reason of a close.  A backend uses codes from 4000 to 4999.

    reason: at most 123 bytes.
    """

    code: int
    reason: str


INVALID_GRANT = CloseRequest(4001, "invalid_grant")
INVALID_FRAME = CloseRequest(4002, "invalid_request")
ACCESS_DENIED = CloseRequest(4003, "access_denied")
REPLACED = CloseRequest(4004, "replaced")
SLOW_READER = CloseRequest(4008, "slow reader")
SESSION_ENDED = CloseRequest(4011, "session ended")
RATE_LIMITED = CloseRequest(4029, "rate_limited")
CLOSED_BY_CLIENT = CloseRequest(1000, "")
DRAINING = CloseRequest(1012, "drain")
UNAVAILABLE = CloseRequest(1013, "temporarily_unavailable")
AWAY_TOO_LONG = CloseRequest(NETWORK_LOST, "")

ENDED_BY_BACKEND = 4010
"""The default code of a close by the backend."""


class MessageAnswer(NamedTuple):
    """The backend's answer to `tunnel.message`.

    reply: JSON text for the client; None for an answer without one.
    error: the words `error` and `error_description` of a refusal; None if it was accepted.
    """

    reply: bytes | None = None
    error: tuple[str, str] | None = None
    close: CloseRequest | None = None


def new_tunnel_id() -> str:
    """Return an id with 126 random bits after a random shard."""
    return secrets.choice(SHARDS) + secrets.token_urlsafe(16)[1:]


def is_tunnel_id(text: str) -> bool:
    """Whether the text has the form of an id. Other text must not reach the state's keys."""
    return re.fullmatch(r"[A-Za-z0-9_-]{22}", text) is not None


def is_ticket(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_-]{43}", text) is not None


def new_ticket(tunnel_id: str) -> str:
    """Return a ticket of 43 characters. The first one is the tunnel's shard."""
    return tunnel_id[0] + secrets.token_urlsafe(32)[1:]


def new_epoch() -> str:
    return secrets.token_urlsafe(6)


def secret_hash(secret: str) -> bytes:
    """Return the SHA-256 of a ticket or resume secret."""
    return hashlib.sha256(secret.encode()).digest()
