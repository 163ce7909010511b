"""Shares the event loop between sockets that have more to handle than one step takes.

A socket reads at most `STEP` frames, or handles at most `STEP` messages, at a time.
The rest waits here, in the order of arrival, and at most `STEPS_PER_TURN` steps of
all sockets together run in one turn of the loop.  A socket that sends few frames in a
read is handled at once and is never queued.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

STEP = 8
"""Frames, and messages, of one socket in a row.  A browser sends one or two in a read."""

STEP_SECONDS = 0.001
"""Time after which a step handles no further message.  Most take 0.1 to 0.3 ms; one that makes
the pretend provider draw a code takes 10 ms, and is then the only one of its step."""

STEPS_PER_TURN = 2
"""A request to the broker takes five or six turns: with two steps in each it is answered within
15 ms if messages are cheap and within 100 ms if codes are drawn, for any number of flooding
sockets."""


class Turns:
    def __init__(self) -> None:
        self._steps: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: Callable[[], None]) -> None:
        """Call `step` in a later turn of the loop, after all steps that already wait."""
        self._steps.append(step)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    async def next(self) -> None:
        """Wait for a turn."""
        turn = asyncio.Event()
        self.add(turn.set)
        await turn.wait()

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(min(STEPS_PER_TURN, len(self._steps))):
            loop.call_soon(self._steps.popleft())  # a failing step does not end the others
        self._scheduled = bool(self._steps)
        if self._scheduled:
            loop.call_soon(self._turn)
