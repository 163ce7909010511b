"""The browsers that wait at this instance: who, until when, woken by what.

A browser is a socket (`sid`) with one live login.  It is woken by a notice from
the bus, or by the end of its login's time; at the end the state is asked, for
it is truth and the notice may have been lost.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

from broker.bus import Bus, Notice
from broker.errors import BrokerError
from broker.flow import EVENTS, Flow
from broker.login import OPEN, REDEEM_LIFETIME, Login, State
from broker.metrics import WAITING
from broker.state import Clock

log = structlog.get_logger()

Push = Callable[[str, str, Notice], Awaitable[None]]
"""Tells a socket: sid, app id, notice."""

LAST_EVENTS = frozenset({EVENTS[State.DENIED], EVENTS[State.EXPIRED]})
"""After these nothing more can come."""

RETRY = 1.0
"""Seconds until the state is asked again after it could not be."""

SLACK = 100
"""Ends in the heap beyond twice the browsers that wait, before it is built anew."""


class Waiting(NamedTuple):
    sid: str
    app: str
    until: float


class Lobby:
    """instance: this process's name on the bus."""

    def __init__(self, *, bus: Bus, flow: Flow, clock: Clock, instance: str) -> None:
        self._bus = bus
        self._flow = flow
        self._clock = clock
        self._instance = instance
        self._waiting: dict[str, Waiting] = {}
        self._login_of: dict[str, str] = {}
        self._ends: list[tuple[float, str]] = []
        self._sooner = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, sid: str, login: Login) -> str | None:
        """Let `sid` wait for `login`; return the login it waited for until now, if another."""
        former = self._login_of.get(sid)
        if former == login.id:
            former = None
        if former is not None:
            self.forget(former)
        # The login's former socket, gone or going, no longer speaks for it.
        self.forget(login.id)
        self._login_of[sid] = login.id
        self._wait_until(login.id, Waiting(sid, login.app, login.expires_at))
        return former

    def leave(self, sid: str) -> None:
        """The socket has closed; its login goes on and may be resumed on another."""
        login_id = self._login_of.get(sid)
        if login_id is not None:
            self.forget(login_id)

    def forget(self, login_id: str) -> None:
        waiting = self._waiting.pop(login_id, None)
        if waiting is not None:
            del self._login_of[waiting.sid]
            WAITING.dec()

    async def run(self, push: Push) -> None:
        """Wake browsers through `push` until cancelled."""
        async with self._bus.listen(self._instance) as notices, asyncio.TaskGroup() as group:
            expiry = group.create_task(self._watch_ends(push))
            await self._catch_up(push)
            async for notice in notices:
                await self._wake(notice, push)
            expiry.cancel()

    async def expire(self, push: Push) -> None:
        """Tell every browser whose time has ended what became of its login."""
        while self._ends and self._ends[0][0] <= self._clock():
            end, login_id = heapq.heappop(self._ends)
            waiting = self._waiting.get(login_id)
            if waiting is not None and waiting.until == end:
                await self._ask(login_id, waiting, push)

    async def _catch_up(self, push: Push) -> None:
        """Ask about every browser: notices may have gone by while nobody listened."""
        for login_id, waiting in list(self._waiting.items()):
            await self._ask(login_id, waiting, push)

    async def _ask(self, login_id: str, waiting: Waiting, push: Push) -> None:
        """Ask the state what became of the login, and tell the browser."""
        try:
            login = await self._flow.look(login_id)
        except BrokerError:
            if self._waiting.get(login_id) is waiting:
                self._wait_until(login_id, waiting._replace(until=self._clock() + RETRY))
            return
        await self._settle(login_id, login, push)

    async def _settle(self, login_id: str, login: Login | None, push: Push) -> None:
        state = State.EXPIRED if login is None else login.state
        if state in EVENTS:
            await self._wake(Notice(EVENTS[state], login_id), push)
        waiting = self._waiting.get(login_id)
        if waiting is None:
            return
        if login is None or state not in OPEN:
            self.forget(login_id)
        else:
            self._wait_until(login_id, waiting._replace(until=login.expires_at))

    async def _wake(self, notice: Notice, push: Push) -> None:
        waiting = self._waiting.get(notice.login_id)
        if waiting is None:
            return
        if notice.event in LAST_EVENTS:
            self.forget(notice.login_id)
        elif notice.event == EVENTS[State.CONFIRMED]:
            until = self._clock() + REDEEM_LIFETIME
            self._wait_until(notice.login_id, waiting._replace(until=until))
        try:
            await push(waiting.sid, waiting.app, notice)
        except Exception:  # one browser's trouble is not the others'
            log.exception("push failed", login_id=notice.login_id, notice=notice.event)

    def _wait_until(self, login_id: str, waiting: Waiting) -> None:
        if login_id not in self._waiting:
            WAITING.inc()
        self._waiting[login_id] = waiting
        heapq.heappush(self._ends, (waiting.until, login_id))
        if len(self._ends) > 2 * len(self._waiting) + SLACK:
            # Most ends are of browsers that have left, or were told another end since.
            self._ends = [(one.until, name) for name, one in self._waiting.items()]
            heapq.heapify(self._ends)
        if self._ends[0][1] == login_id:
            self._sooner.set()

    async def _watch_ends(self, push: Push) -> None:
        while True:
            self._sooner.clear()
            await self.expire(push)
            pause = self._ends[0][0] - self._clock() if self._ends else None
            try:
                async with asyncio.timeout(pause):
                    await self._sooner.wait()
            except TimeoutError:
                continue
