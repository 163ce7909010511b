"""The clock of the event loop, which a test moves forward instead of waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class LoopClock:
    """Replaces `time()` of the running loop. Timers, `sleep` and `timeout` follow it.

    runs: whether time also passes by itself. If not, no timer fires until the
    test moves the clock: use `until` in place of `eventually`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, runs: bool) -> None:
        self._loop = loop
        self._real = loop.time
        self._runs = runs
        self._offset = 0.0

    def __call__(self) -> float:
        return self._offset + (self._real() if self._runs else 0.0)

    def jump(self, seconds: float) -> None:
        """Move the clock without letting the loop run, as if the loop was blocked."""
        self._offset += seconds

    async def move(self, seconds: float) -> None:
        """Move the clock, and return when no timer is due."""
        self.jump(seconds)
        while await self._fire_due_timers():
            pass

    async def _fire_due_timers(self) -> bool:
        """Fire all due timers. Return whether these have set timers that are due."""
        more_are_due = self._loop.create_future()
        # Timers fire in the order of their times, so this one fires last.
        self._loop.call_at(self(), lambda: more_are_due.set_result(self._is_due()))
        return bool(await more_are_due)

    def _is_due(self) -> bool:
        timers: list[asyncio.TimerHandle] = self._loop._scheduled  # type: ignore[attr-defined]
        return any(timer.when() <= self() for timer in timers if not timer.cancelled())

    async def until(self, condition: Callable[[], object]) -> None:
        """Run the loop until `condition()` holds, without moving the clock."""
        while not condition():
            await asyncio.sleep(0)

    async def pass_by(self, seconds: float, step: float) -> None:
        """Move the clock in steps, so that repeating timers fire in each step."""
        for _ in range(round(seconds / step)):
            await self.move(step)


@contextmanager
def replaced_clock(*, runs: bool) -> Iterator[LoopClock]:
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop, runs=runs)
    loop.time = clock  # type: ignore[method-assign]
    try:
        yield clock
    finally:
        del loop.time
