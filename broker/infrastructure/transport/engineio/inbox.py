"""Handles the messages of each session in order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from broker.infrastructure.background import is_cancelled
from broker.infrastructure.transport.engineio.packets import Packet
from broker.infrastructure.transport.engineio.sessions import EngineIOSession
from broker.infrastructure.transport.step_queue import STEP_SIZE, STEP_TIME_MAX, StepQueue
from broker.infrastructure.transport.websocket.handshake import HTTPRequest

INBOX_MAX, INBOX_RESUME = 64, 16
"""Messages of one session that may wait for their handler. At `INBOX_MAX` the session stops
reading. At `INBOX_RESUME` it resumes."""


ENDS_PER_TURN = 32
"""Sessions whose end is handled in one iteration of the event loop. An end takes 0.02 ms."""


class SessionOpened(NamedTuple):
    """The first item of an inbox."""

    request: HTTPRequest


class SessionClosed(NamedTuple):
    """The last item of an inbox."""

    reason: str


Item = Packet | SessionOpened | SessionClosed


class Inbox(deque[Item]):
    """Messages of one session that wait, and the task that handles them."""

    task: asyncio.Task[None]
    is_paused = False


class Inboxes:
    """The messages that wait, by session. A session has an inbox and a task only while it has any.

    Sessions that end without an inbox share one task. Thousands may end at once, when a proxy
    restarts, and a task for each would take as much memory as the session.

    handlers: coroutine functions `connect`, `message` and `disconnect`. The ends of other sessions
        wait for `disconnect`.
    on_failure: called with the sid if a handler raises.
    """

    def __init__(
        self,
        *,
        sessions: Mapping[str, EngineIOSession],
        handlers: Mapping[str, Callable[..., Awaitable[object]]],
        steps: StepQueue,
        on_failure: Callable[[str], None],
    ) -> None:
        self._sessions = sessions
        self._handlers = handlers
        self._steps = steps
        self._on_failure = on_failure
        self._inboxes: dict[str, Inbox] = {}
        self._ended: deque[tuple[str, SessionClosed]] = deque()
        self._ending: asyncio.Task[None] | None = None
        self._is_closing = False

    def __len__(self) -> int:
        return len(self._inboxes) + len(self._ended)

    def add(self, sid: str, item: Item) -> None:
        """Handle an item after all earlier ones of its session."""
        inbox = self._inboxes.get(sid)
        if inbox is None and isinstance(item, SessionClosed):
            self._ended.append((sid, item))
            if self._ending is None:
                self._ending = asyncio.create_task(self._handle_ended())
            return
        if inbox is None:
            inbox = self._inboxes[sid] = Inbox([item])
            inbox.task = asyncio.get_running_loop().create_task(self._handle_all(sid, inbox))
            return
        inbox.append(item)
        if len(inbox) >= INBOX_MAX and not inbox.is_paused and sid in self._sessions:
            inbox.is_paused = True
            self._sessions[sid].pause()

    async def wait_until_handled(self, sid: str) -> None:
        """Wait until the session's inbox is empty."""
        inbox = self._inboxes.get(sid)
        if inbox is not None:
            await asyncio.wait([inbox.task])

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109  # cancels what is late
        """Wait until all inboxes are empty. After `timeout` seconds, cancel their tasks."""
        self._is_closing = True
        tasks = [inbox.task for inbox in self._inboxes.values()]
        if self._ending is not None:
            tasks.append(self._ending)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _handle_all(self, sid: str, inbox: Inbox) -> None:
        handled, started = 0, time.monotonic()
        try:
            while inbox:
                await self._handle(sid, inbox.popleft())
                handled += 1
                if inbox and (handled == STEP_SIZE or time.monotonic() > started + STEP_TIME_MAX):
                    await self._steps.wait()
                    handled, started = 0, time.monotonic()
                if inbox.is_paused and len(inbox) <= INBOX_RESUME and sid in self._sessions:
                    inbox.is_paused = False
                    self._sessions[sid].resume()
        finally:
            del self._inboxes[sid]

    async def _handle_ended(self) -> None:
        handled = 0
        try:
            while self._ended:
                await self._handle(*self._ended.popleft())
                handled += 1
                if handled % ENDS_PER_TURN == 0 and not self._is_closing:
                    await asyncio.sleep(0)
        finally:
            self._ending = None

    async def _handle(self, sid: str, item: Item) -> None:
        try:
            if isinstance(item, SessionClosed):
                await self._handlers["disconnect"](sid, item.reason)
            elif isinstance(item, SessionOpened):
                await self._handlers["connect"](sid, item.request)
            else:
                await self._handlers["message"](sid, item)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            self._on_failure(sid)
        except Exception:  # whatever the cause, the session is closed
            self._on_failure(sid)
