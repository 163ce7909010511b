"""Events without attachments, read and acknowledged without python-socketio's packets.

They are nearly all messages of a browser. python-socketio reads the others, and an event whose
head is unusual.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from broker.infrastructure.codec import decode, encode

EVENT, ACK = "2", "3"
"""Packet types (Socket.IO protocol v5)."""

ID_DIGITS_MAX = 18
"""Digits of an acknowledgement id that this module reads."""

HEAD = re.compile(rf"{EVENT}(?:(/[^,?]*),)?([0-9]{{0,{ID_DIGITS_MAX}}})(?=\[)")
"""The packet's type, the namespace unless it is `/`, and the acknowledgement id if there is one."""


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


def build_ack(event: TextEvent, answer: object) -> str:
    """Return the packet that acknowledges an event. answer: what its handler returned."""
    arguments = [] if answer is None else answer if isinstance(answer, tuple) else [answer]
    namespace = "" if event.namespace == "/" else f"{event.namespace},"
    return f"{ACK}{namespace}{event.id}{encode(arguments).decode()}"
