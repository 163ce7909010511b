"""Paths, frames and packets of Wafer's tunnels. Pure functions.

A frame is `type` or `type:json`. The SDK of the clients splits it at the first colon.
"""

from __future__ import annotations

from typing import NamedTuple

from broker.infrastructure.codec import decode
from broker.tunnels.model import FRAME_MAX_BYTES

APP_PREFIX = "/wafer/{app:[A-Za-z0-9._-]+}"
"""The prefix of the calls of an app. Those of the app `default` have none."""

SOCKET_PATH = "/tunnel/wafer"
"""The path of the WebSockets. A ticket follows it."""

PACKETS_MAX = 100
"""Packets of one push."""

DELIVERIES_MAX = 1_000
"""Packets of one push, each counted for each of its tunnels."""

CONTENT_MAX_BYTES = FRAME_MAX_BYTES - 64
"""Bytes of a packet's content. With its type it fits into a frame."""

MESSAGE, CLOSE = "message", "close"
"""Types of packets."""


class WaferFrame(NamedTuple):
    """content: the text after the first colon; empty without one."""

    type: str
    content: str


class WaferPacket(NamedTuple):
    """A packet of a push.  content: for the client; empty for a close."""

    tunnel_ids: tuple[str, ...]
    type: str
    content: bytes


def parse_frame(text: str) -> WaferFrame:
    kind, _, content = text.partition(":")
    return WaferFrame(kind, content)


def parse_packets(data: str) -> list[WaferPacket]:
    """Return the packets of a push. Raises ValueError, whose text is for the developer."""
    try:
        packets = decode(data)
    except (ValueError, RecursionError):
        raise ValueError("data is not JSON") from None
    if not isinstance(packets, list) or len(packets) > PACKETS_MAX:
        raise ValueError(f"data is not an array of at most {PACKETS_MAX} packets")
    return [_parse_packet(packet) for packet in packets]


def _parse_packet(packet: object) -> WaferPacket:
    fields = packet if isinstance(packet, dict) else {}
    ids, kind = fields.get("tunnelIds"), fields.get("type")
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise ValueError("tunnelIds is not an array of strings")
    if kind not in (MESSAGE, CLOSE):
        raise ValueError(f"type is neither {MESSAGE} nor {CLOSE}")
    content = _parse_content(fields.get("content")) if kind == MESSAGE else b""
    return WaferPacket(tuple(dict.fromkeys(ids)), kind, content)


def _parse_content(content: object) -> bytes:
    """The SDK of the clients throws on other content than an object with a type."""
    try:
        value = decode(content) if isinstance(content, str) else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(content, str) or not isinstance(value, dict):
        raise ValueError("content is not the JSON text of an object")
    if not isinstance(value.get("type"), str):
        raise ValueError("content has no type")
    text = content.encode()
    if len(text) > CONTENT_MAX_BYTES:
        raise ValueError(f"content is larger than {CONTENT_MAX_BYTES} bytes")
    return text
