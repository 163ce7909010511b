"""Engine.IO packets."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode

from broker.infrastructure.transport.websocket.frames import Message

Packet = Message
"""A packet in the form of a WebSocket message: text begins with the packet's type, binary data
is the payload of a message."""

SEPARATOR = "\x1e"
"""Separates packets in the body of a polling request or response."""

OPEN, CLOSE, PING, PONG, MESSAGE, UPGRADE, NOOP = "0123456"


def encode_packet(packet: Packet) -> str:
    """Return the packet as text for a polling body."""
    return packet if isinstance(packet, str) else "b" + b64encode(packet).decode()


def decode_packet(text: str) -> Packet:
    """Return the packet of a polling body. Raises ValueError if binary data is not base64."""
    if text[:1] != "b":
        return text
    try:
        return b64decode(text[1:], validate=True)
    except binascii.Error:
        raise ValueError("binary packet is not base64") from None
