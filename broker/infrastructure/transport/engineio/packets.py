"""Engine.IO packets."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NoBase64
from enum import IntEnum

Packet = str | bytes

SEPARATOR = "\x1e"
"""Between packets in a body of long polling."""

OPEN, CLOSE, PING, PONG, MESSAGE, UPGRADE, NOOP = "0123456"


class HeartbeatPhase(IntEnum):
    """What a socket is waiting for on the wheel."""

    JOIN = 0
    PING = 1
    PONG = 2
    ANSWERED = 3


def encode_packet(packet: Packet) -> str:
    """A packet as it stands in a body of long polling."""
    return packet if isinstance(packet, str) else "b" + b64encode(packet).decode()


def decode_packet(text: str) -> Packet:
    """The packet that stands in a body; raises ValueError for a binary one that is no base64."""
    if text[:1] != "b":
        return text
    try:
        return b64decode(text[1:], validate=True)
    except NoBase64:
        raise ValueError("binary that is no base64") from None
