"""Shares the event loop between connections that send more than one step handles.

A connection reads at most `STEP_SIZE` frames, or handles at most `STEP_SIZE` messages, in
one step. Its next step is queued here. Steps run in the order of the queue, at most
`STEPS_PER_ITERATION` in one iteration of the event loop. A connection that sends few frames
in a read is handled at once and is never queued.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

STEP_SIZE = 8
"""Frames or messages of one connection in one step. A browser sends one or two in a read."""

STEP_TIME_MAX = 0.001
"""Seconds after which a step handles no further message. Most messages take 0.1 to 0.3 ms. One
that makes the pretend provider draw a code takes 10 ms, and is then the only one in its step."""

STEPS_PER_ITERATION = 2
"""An HTTP request takes five or six iterations of the event loop. With two steps in each, the
broker answers it within 15 ms if messages are cheap, and within 100 ms if codes are drawn,
for any number of flooding connections."""


class StepQueue:
    """A queue of steps, shared by all connections of a server."""

    def __init__(self) -> None:
        self._steps: deque[Callable[[], None]] = deque()
        self._is_scheduled = False

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: Callable[[], None]) -> None:
        """Call `step` in a later iteration of the event loop, after all queued steps."""
        self._steps.append(step)
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    async def wait(self) -> None:
        """Wait until the caller may run its next step."""
        is_due = asyncio.Event()
        self.add(is_due.set)
        await is_due.wait()

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(min(STEPS_PER_ITERATION, len(self._steps))):
            loop.call_soon(self._steps.popleft())  # a failing step does not stop the others
        self._is_scheduled = bool(self._steps)
        if self._is_scheduled:
            loop.call_soon(self._run)
