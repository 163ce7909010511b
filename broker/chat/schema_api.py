"""The requests and answers of the events of `/chat`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from broker.chat.payloads import Payload
from broker.chat.rules import HISTORY_MAX, ROOM_PATTERN
from broker.infrastructure.api.schema import (
    AppIdField,
    Count,
    LoginIdField,
    RequestModel,
    ResponseModel,
    SecretField,
)

NICKNAME_MAX, TEXT_MAX = 32, 4_000

RESTRICTION_MAX = 30 * 86_400
"""Seconds of a mute or a kick."""

OFFSET_MAX = 2**53 - 1
"""The largest whole number that JavaScript has exactly."""

RoomField = Annotated[str, StringConstraints(pattern=ROOM_PATTERN)]

SubjectField = Annotated[str, StringConstraints(min_length=1, max_length=255)]

MessageIdField = Annotated[str, StringConstraints(min_length=1, max_length=64)]

OffsetField = Annotated[int, Field(ge=0, le=OFFSET_MAX)]


class ChatConnectRequest(RequestModel):
    """The payload of the CONNECT packet: a token, a phone's session, or `resume`."""

    token: Annotated[str, StringConstraints(max_length=16_384)] | None = None
    app: AppIdField | None = None
    id: LoginIdField | None = None
    skey: SecretField | None = None
    resume: SecretField | None = None
    nickname: str | None = None


class RoomRequest(RequestModel):
    """A room by its name, or a point-to-point room by the other person's subject."""

    room: RoomField | None = None
    to: SubjectField | None = None


class JoinRequest(RoomRequest):
    """epoch, offset: the entries that the client has."""

    epoch: Annotated[str, StringConstraints(max_length=64)] | None = None
    offset: OffsetField | None = None


class SayRequest(RoomRequest):
    id: MessageIdField
    text: Annotated[str, StringConstraints(max_length=TEXT_MAX)] | None = None
    data: Any = None


class HistoryRequest(RoomRequest):
    before: OffsetField | None = None
    limit: Annotated[int, Field(ge=1, le=HISTORY_MAX)] = HISTORY_MAX


class RoomOffsetRequest(RoomRequest):
    offset: OffsetField


class TypingRequest(RoomRequest):
    on: bool = True


class RestrictRequest(RoomRequest):
    subject: SubjectField
    seconds: Annotated[int, Field(ge=0, le=RESTRICTION_MAX)]


class JoinResponse(ResponseModel):
    room: str
    epoch: str
    offset: Count
    recovered: bool
    messages: list[Payload]
    members: list[Payload]
    online: Count
    may: list[str]


class LeaveResponse(ResponseModel):
    room: str


class SayResponse(ResponseModel):
    room: str
    offset: Count
    at: float


class HistoryResponse(ResponseModel):
    messages: list[Payload]
    more: bool


class ConversationsResponse(ResponseModel):
    conversations: list[Payload]


class DeleteResponse(ResponseModel):
    room: str
    offset: Count
    entry: Count


class EmptyResponse(ResponseModel):
    """No fields."""
