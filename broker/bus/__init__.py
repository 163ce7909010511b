"""Tells an instance that a login has changed.

The bus is a hint: a notice may be lost, and whoever missed one finds the truth
in the state.  A notice names a login and what became of it, and nothing else
ever: no token, secret, scene, skey, session_key or js_code travels here.
Each backend is one file; `BUSES` is the table of them, by URL scheme.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import Protocol
from urllib.parse import urlsplit

from broker.login import Notice


class Bus(Protocol):
    async def open(self) -> None:
        """Connect; where that fails, go on trying in the background."""

    async def publish(self, instance: str, notice: Notice) -> None:
        """Send `notice` to `instance` alone.  Nobody listening there is no failure.

        Raises Unavailable when it could not be sent.
        """

    def listen(self, instance: str) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        """Hear every notice sent to `instance` while inside the ``async with`` block, in order.

        Entering, and waiting for a notice, raises Unavailable once nothing can be
        heard any more: what was sent meanwhile is lost.
        """

    async def close(self) -> None:
        """Let go of every connection; listeners end."""


BUSES: Mapping[str, str] = {
    "memory": "broker.bus.memory",
    "redis": "broker.bus.redis",
    "rediss": "broker.bus.redis",
    "redis+sentinel": "broker.bus.redis",
    "rediss+sentinel": "broker.bus.redis",
    "redis+cluster": "broker.bus.redis",
    "rediss+cluster": "broker.bus.redis",
}


def open_bus(url: str) -> Bus:
    """The bus that `url` names, not yet connected.

    Raises ValueError for a scheme that is not in `BUSES`, or a URL that names nothing.
    """
    scheme = urlsplit(url).scheme
    if scheme not in BUSES:
        raise ValueError(f"unknown bus {scheme!r}: want one of {', '.join(sorted(BUSES))}")
    bus: Bus = import_module(BUSES[scheme]).open_bus(url)
    return bus
