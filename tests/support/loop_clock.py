"""The event loop's clock, which a test moves on instead of waiting."""

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
        self._ahead = 0.0

    def __call__(self) -> float:
        return self._ahead + (self._real() if self._runs else 0.0)

    def jump(self, seconds: float) -> None:
        """Move the clock without letting the loop run, as if the loop was blocked."""
        self._ahead += seconds

    async def move(self, seconds: float) -> None:
        """Move the clock, and return when no timer is due any more."""
        self.jump(seconds)
        while await self._fire_due_timers():
            pass

    async def _fire_due_timers(self) -> bool:
        """Let all timers that are due fire. Return whether more are due, set by these."""
        more_are_due = self._loop.create_future()
        # Timers fire in the order of their times, so this one is the last of its round.
        self._loop.call_at(self(), lambda: more_are_due.set_result(self._is_due()))
        return bool(await more_are_due)

    def _is_due(self) -> bool:
        timers: list[asyncio.TimerHandle] = self._loop._scheduled  # type: ignore[attr-defined]
        return any(timer.when() <= self() for timer in timers if not timer.cancelled())

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the loop run until `condition()` holds, while the clock stands still."""
        while not condition():
            await asyncio.sleep(0)

    async def pass_by(self, seconds: float, step: float) -> None:
        """Move the clock in steps, so that timers that set themselves again fire each time."""
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
