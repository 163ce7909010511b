"""CONNECT, and events without attachments, read and sent without python-socketio's packets.

They are nearly all messages. python-socketio reads the others, and those whose head is unusual.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from broker.infrastructure.codec import decode, encode

CONNECT, EVENT, ACK = "0", "2", "3"
"""Packet types (Socket.IO protocol v5)."""

ID_DIGITS_MAX = 18
"""Digits of an acknowledgement id that this module reads."""

HEAD = re.compile(rf"{EVENT}(?:(/[^,?]*),)?([0-9]{{0,{ID_DIGITS_MAX}}})(?=\[)")
"""The packet's type, the namespace unless it is `/`, and the acknowledgement id if there is one."""

CONNECT_HEAD = re.compile(rf"{CONNECT}(?:(/[^,?]*),)?(?=\{{|\Z)")
"""The packet's type, and the namespace unless it is `/`. Data follows, or nothing."""


class TextConnect(NamedTuple):
    """namespace: as in the packet. data: what the client sent; None if there is none."""

    namespace: str
    data: Any


class TextEvent(NamedTuple):
    """namespace: as in the packet. id: of the acknowledgement, or None.

    data: the name and the arguments.
    """

    namespace: str
    id: int | None
    data: Any


def parse_event(message: object) -> TextEvent | None:
    """Return the event, or None for a message that python-socketio must read.

    Raises ValueError or RecursionError if its data is not JSON.
    """
    head = HEAD.match(message) if isinstance(message, str) else None
    if head is None:
        return None
    namespace, ack_id = head.groups()
    data = decode(head.string[head.end() :])
    return TextEvent(namespace or "/", int(ack_id) if ack_id else None, data)


def parse_connect(message: object) -> TextConnect | None:
    """Return the CONNECT packet, or None for a message that python-socketio must read.

    Raises ValueError or RecursionError if its data is not JSON.
    """
    head = CONNECT_HEAD.match(message) if isinstance(message, str) else None
    if head is None:
        return None
    data = head.string[head.end() :]
    return TextConnect(head[1] or "/", decode(data) if data else None)


def build_connect(namespace: str, sid: str) -> str:
    """Return the packet that accepts a CONNECT."""
    return f"{CONNECT}{_prefix(namespace)}{encode({'sid': sid}).decode()}"


def build_ack(event: TextEvent, answer: object) -> str:
    """Return the packet that acknowledges an event. answer: what its handler returned."""
    arguments = [] if answer is None else answer if isinstance(answer, tuple) else [answer]
    return f"{ACK}{_prefix(event.namespace)}{event.id}{encode(arguments).decode()}"


def build_event(name: str, data: object, *, namespace: str, ack_id: int | None = None) -> str:
    """Return the packet of an event. data: a tuple of arguments, one argument, or None."""
    arguments = () if data is None else data if isinstance(data, tuple) else (data,)
    ack = "" if ack_id is None else ack_id
    return f"{EVENT}{_prefix(namespace)}{ack}{encode([name, *arguments]).decode()}"


def _prefix(namespace: str) -> str:
    return "" if namespace == "/" else f"{namespace},"
