"""Limits concurrent calls in total and per key."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Hashable


class FairQueue:
    """Limits concurrent calls in total and per key. Further calls wait.

    Keys take turns, so a key with many calls delays only itself.

    share: concurrent calls of one key.
    total: concurrent calls of all keys; unlimited if None.
    wait: seconds that a call may wait for its turn.
    """

    def __init__(self, *, share: int, total: int | None = None, wait: float) -> None:
        self._share = share
        self._free = total or sys.maxsize
        self._wait = wait
        self._running: dict[Hashable, int] = {}
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        """In the order of turns."""

    def __len__(self) -> int:
        """Keys with running or waiting calls."""
        return len(self._running.keys() | self._waiting.keys())

    def turn(self, key: Hashable) -> Turn:
        """Return an asynchronous context manager for one call of `key`.

        Entering it waits for a turn, and raises TimeoutError after `wait` seconds.
        """
        return Turn(self, key)

    async def acquire(self, key: Hashable) -> None:
        if self._free and self._running.get(key, 0) < self._share:
            self._start(key)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        try:
            async with asyncio.timeout(self._wait):
                await turn
        except (TimeoutError, asyncio.CancelledError):
            self._leave(key, turn)
            raise

    def release(self, key: Hashable) -> None:
        running = self._running.pop(key) - 1
        if running:
            self._running[key] = running
        self._free += 1
        self._start_next()

    def _start(self, key: Hashable) -> None:
        self._running[key] = self._running.get(key, 0) + 1
        self._free -= 1

    def _start_next(self) -> None:
        for key, turns in self._waiting.items():  # few keys have used their share
            # A turn that is done was cancelled in this turn of the event loop.
            turn = next((waiting for waiting in turns if not waiting.done()), None)
            if turn is not None and self._running.get(key, 0) < self._share:
                self._drop(key, turn)
                if key in self._waiting:
                    self._waiting[key] = self._waiting.pop(key)  # after the other keys
                self._start(key)
                turn.set_result(None)
                return

    def _drop(self, key: Hashable, turn: asyncio.Future[None]) -> None:
        self._waiting[key].remove(turn)
        if not self._waiting[key]:
            del self._waiting[key]

    def _leave(self, key: Hashable, turn: asyncio.Future[None]) -> None:
        """Cancel the wait, or release the turn if it was granted in the meantime."""
        if turn.done() and not turn.cancelled():
            self.release(key)
            return
        self._drop(key, turn)


class Turn:
    """One call of a key."""

    __slots__ = ("_key", "_queue")

    def __init__(self, queue: FairQueue, key: Hashable) -> None:
        self._queue = queue
        self._key = key

    async def __aenter__(self) -> None:
        await self._queue.acquire(self._key)

    async def __aexit__(self, *_: object) -> None:
        self._queue.release(self._key)
