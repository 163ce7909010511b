"""Events of a session that wait for their handler."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple

from broker.infrastructure.transport.engineio.packets import Packet

INBOX_MAX, INBOX_RESUME = 64, 16
"""Messages of one socket that may wait to be handled: then nothing more is read from it,
until so few are left."""


class SessionOpened(NamedTuple):
    """What begins a socket's messages: how it was asked for."""

    request: Any


class SessionClosed(NamedTuple):
    """What ends a socket's messages."""

    reason: str


class Inbox(deque[Packet | SessionOpened | SessionClosed]):
    """Messages of one socket that wait, and the task that handles them."""

    task: asyncio.Task[None]
    paused = False
