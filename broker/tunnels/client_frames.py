"""The native frames of tunnels: JSON texts. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict

from broker.infrastructure.codec import RawJSON, decode, decoder, encode
from broker.infrastructure.transport.websocket.frames import Message
from broker.tunnels.attaching import Attached
from broker.tunnels.model import CloseRequest, MessageAnswer, StoredMessage

SUBPROTOCOL = "scan-login.tunnel.1"

ID_MAX = 64
"""Characters of a client's message id."""

OFFSET_MAX = 2**53

PONG = b'{"type":"pong"}'


class ClientFrame(TypedDict):
    """The fields of all frames of a client."""

    type: str
    id: NotRequired[str]
    data: NotRequired[RawJSON]
    offset: NotRequired[int]
    tunnel_id: NotRequired[str]
    resume: NotRequired[str]
    epoch: NotRequired[str]


decode_frame = decoder(ClientFrame)


def parse_frame(message: Message) -> ClientFrame | None:
    """Return the frame; None if it is binary, no JSON object, or has a field of a wrong type."""
    if isinstance(message, bytes):
        return None
    try:
        frame = decode_frame(message)
        if "data" in frame:
            decode(bytes(frame["data"]))  # its text is copied, so that it must be valid
    except (ValueError, RecursionError):
        return None
    return frame if 0 <= frame.get("offset", 0) <= OFFSET_MAX else None


def encode_message(message: StoredMessage) -> bytes:
    return b'{"type":"message","offset":%d,"data":%b}' % message


def encode_close(why: CloseRequest) -> bytes:
    return encode({"type": "close", "code": why.code, "reason": why.reason})


def encode_reply(message_id: str, answer: MessageAnswer) -> bytes:
    fields: dict[str, object] = {"type": "reply", "id": message_id}
    if answer.error is not None:
        fields["error"], fields["error_description"] = answer.error
    else:
        fields["data"] = RawJSON(answer.reply or b"null")
    return encode(fields)


def encode_open(attached: Attached, ping_interval: int) -> bytes:
    """ping_interval: seconds between two pings of the client."""
    fields: Mapping[str, object] = {
        "type": "open",
        "tunnel_id": attached.tunnel.id,
        "resume": attached.resume,
        "epoch": attached.tunnel.epoch,
        "offset": attached.position,
        "recovered": attached.recovered,
        "ping_every": ping_interval,
    }
    return encode(fields)
