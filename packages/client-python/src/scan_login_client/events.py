"""The events that a broker sends to webhooks, one class for each type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, ClassVar, TypedDict, get_type_hints

from scan_login_client.errors import InvalidWebhook


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A message with a valid signature.

    webhook_id: the same in every repeat. timestamp: of this attempt, in ISO 8601.
    """

    webhook_id: str
    timestamp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityFind(Event):
    """Which user is this? Answer `{"subject": …}`, or status 404 or 403 with a JSON object."""

    type: ClassVar[str] = "identity.find"
    provider: str
    provider_app_id: str
    openid: str
    unionid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginJudge(Event):
    """May this login continue? Answer `{"verdict": "allow"}`, `challenge` or `deny`."""

    type: ClassVar[str] = "login.judge"
    app: str
    login_id: str
    browser: Mapping[str, object]
    phone: Mapping[str, object]
    identity: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginReported(Event):
    """The user has reported a login as foreign: end the sessions of `subject`.

    at: Unix time of the report, in seconds.
    """

    type: ClassVar[str] = "login.reported"
    login_id: str
    subject: str
    app: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOffered(Event):
    """Keep this file? Answer 200, or status 403 with a JSON object.

    openid: empty for a file of the app itself. size: in bytes. sha256: in hexadecimal.
    """

    type: ClassVar[str] = "file.offered"
    app: str
    openid: str
    subject: str | None = None
    size: int
    media_type: str
    purpose: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomAdmit(Event):
    """May this person join a chat room?"""

    type: ClassVar[str] = "room.admit"
    app: str
    room: str
    subject: str
    openid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelVerify(Event):
    """Does this URL receive the callbacks of tunnels? Answer `{"challenge": …}`."""

    type: ClassVar[str] = "tunnel.verify"
    app: str
    challenge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelEvent(Event):
    """The fields that all events of an open tunnel have.  seq: counts its callbacks from 1."""

    app: str
    tunnel_id: str
    seq: int
    subject: str | None = None
    openid: str | None = None
    meta: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelOpen(TunnelEvent):
    """A client has connected. Answer 204, or `{"meta"?, "groups"?, "subject"?}`."""

    type: ClassVar[str] = "tunnel.open"
    ip: str
    user_agent: str
    resumed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelMessage(TunnelEvent):
    """A message of the client. Answer 204, or `{"reply"?, "close"?}`.

    id: of the client. data: any JSON value.
    """

    type: ClassVar[str] = "tunnel.message"
    id: str | None = None
    data: object


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelClose(TunnelEvent):
    """A tunnel has ended.  by: `client`, `server`, `network` or `drain`."""

    type: ClassVar[str] = "tunnel.close"
    code: int
    reason: str
    by: str


class _NumberedEntry(TypedDict):
    seq: int
    kind: str
    id: str
    at: float
    app: str
    state: str


class AuditEntry(_NumberedEntry, total=False):
    """An entry of the broker's audit log, as it was sent, with fields of later versions too.

    seq: its number; ignore a number that you have. at, began_at: Unix time in seconds.
    hash: of the hash chain.
    """

    began_at: float
    incarnation: str
    provider: str
    openid: str
    subject: str
    actor: str
    target: str
    ip: str
    phone_ip: str
    user_agent: str
    reason: str
    instance: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntries(Event):
    """New entries of the audit log, in order. Store them, then answer 200."""

    type: ClassVar[str] = "audit.entry"
    entries: Sequence[AuditEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherEvent(Event):
    """An event that this version does not know. Answer status 404."""

    type: str
    data: Mapping[str, object]


EVENTS: Mapping[str, type[Event]] = {
    event.type: event
    for event in (
        IdentityFind,
        LoginJudge,
        LoginReported,
        FileOffered,
        RoomAdmit,
        TunnelVerify,
        TunnelOpen,
        TunnelMessage,
        TunnelClose,
        AuditEntries,
    )
}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_integer(value) or isinstance(value, float)


ENTRY_CHECKS: Mapping[str, Callable[[object], bool]] = {
    name: {str: _is_text, int: _is_integer, float: _is_number}[kind]
    for name, kind in get_type_hints(AuditEntry).items()
}


def _is_entry(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() >= AuditEntry.__required_keys__
        and all(check(value[name]) for name, check in ENTRY_CHECKS.items() if name in value)
    )


CHECKS: Mapping[str, Callable[[object], bool]] = {
    "str": _is_text,
    "str | None": lambda value: value is None or _is_text(value),
    "int": _is_integer,
    "bool": lambda value: isinstance(value, bool),
    "Mapping[str, object]": lambda value: isinstance(value, dict),
    "Sequence[AuditEntry]": lambda value: isinstance(value, list) and all(map(_is_entry, value)),
    "object": lambda value: True,
}
"""A check for each type of a field, by its annotation."""

HEAD = frozenset(Event.__dataclass_fields__)
"""Fields that are not in `data`."""


def parse_event(webhook_id: str, message: object) -> Event:
    """Return the event of a message. Raises InvalidWebhook for a missing or wrong field."""
    if not isinstance(message, dict):
        raise InvalidWebhook("the body is not a JSON object")
    kind, timestamp, data = (message.get(name) for name in ("type", "timestamp", "data"))
    if not isinstance(kind, str) or not isinstance(timestamp, str) or not isinstance(data, dict):
        raise InvalidWebhook("the body needs type, timestamp and data")
    event = EVENTS.get(kind)
    if event is None:
        return OtherEvent(webhook_id=webhook_id, timestamp=timestamp, type=kind, data=data)
    values: dict[str, Any] = {
        field.name: _value(field, data) for field in fields(event) if field.name not in HEAD
    }
    return event(webhook_id=webhook_id, timestamp=timestamp, **values)


def _value(field: Field[Any], data: Mapping[str, object]) -> object:
    if field.name not in data and field.default is MISSING:
        raise InvalidWebhook(f"data.{field.name} is missing")
    value = data.get(field.name)
    if not CHECKS[str(field.type)](value):
        raise InvalidWebhook(f"data.{field.name} is not of type {field.type}")
    return value
