"""Transports whose close frame was sent, until the peer closes the connection."""

from __future__ import annotations

import asyncio

CLOSE_TIMEOUT = 1.0
"""Seconds that a peer has at least to answer a close. It has at most twice as long."""


class ClosingTransports:
    """Aborts the transports whose peers do not close.

    One timer serves all: a timer for each would double the memory of browsers that leave at once.
    """

    def __init__(self) -> None:
        self._new: set[asyncio.Transport] = set()
        self._old: set[asyncio.Transport] = set()  # there at the last sweep
        self._is_scheduled = False

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def add(self, transport: asyncio.Transport) -> None:
        """Abort the transport in `CLOSE_TIMEOUT` to twice as many seconds."""
        self._new.add(transport)
        if not self._is_scheduled:
            self._schedule()

    def discard(self, transport: asyncio.Transport) -> None:
        """Forget a transport, which has closed, if it is here."""
        self._new.discard(transport)
        self._old.discard(transport)

    def abort_all(self) -> None:
        """Abort all transports now, at a shutdown."""
        for transport in (*self._new, *self._old):
            transport.abort()

    def _schedule(self) -> None:
        self._is_scheduled = True
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._sweep)

    def _sweep(self) -> None:
        late, self._old, self._new = self._old, self._new, set()
        self._is_scheduled = False
        if self._old:
            self._schedule()
        for transport in late:
            transport.abort()
