"""The browsers that wait at this instance: who, until when, woken by what.

A browser is a socket (`sid`) with one live login.  It is woken by a notice from
the bus, or by the end of its login's time.  A notice may be lost and the state
is truth: so it is asked about every browser once in `RECONCILE_INTERVAL`, and about all of
them whenever hearing begins anew.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

import structlog

from broker.errors import BrokerError, Unavailable
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Bus, Notice
from broker.login.events import (
    EVENT_BY_STATE,
    EVENT_RANK,
    FINAL_EVENTS,
    MOVED_EVENT,
    current_event,
    is_new_event,
)
from broker.login.metrics import BUS_RESUBSCRIBES, RECONCILED_CHANGES, WAITING_BROWSERS
from broker.login.model import OPEN, REDEEM_LIFETIME, Login, State
from broker.login.service import LoginService

log = structlog.get_logger()

Push = Callable[[str, str, Notice], Awaitable[None]]
"""Tells a socket: sid, app id, notice."""

RECONCILE_INTERVAL = 4.0
"""Seconds in which the state is asked about every browser once: a browser hears of
what its phone was told within 5 s, whatever became of the notice."""

RECONCILE_SLICES = 8
"""Parts of a round, so that a full lobby is never asked about at once."""

RECONCILE_BATCH = 1_000
"""Browsers asked about in one go where all of them are."""

RETRY_DELAY = 0.5
"""Seconds until what failed is tried again."""

HEAP_SLACK = 100
"""Ends in the heap beyond twice the browsers that wait, before it is built anew."""


UNKNOWN_VERSION = -1
"""Of no login: whoever knows this one is told how a login stands, changed or not."""


class WaitingBrowser(NamedTuple):
    """version: of the login, when the state was last asked.  told: the last event; "" for none."""

    sid: str
    app: str
    expires_at: float
    version: int
    last_sent: str


def slice_index(login_id: str) -> int:
    """Which part of a round a login has its turn in: always the same one, whoever else waits."""
    return ord(login_id[0]) % RECONCILE_SLICES


class Lobby:
    """instance: this process's name on the bus."""

    def __init__(self, *, bus: Bus, flow: LoginService, clock: Clock, instance: str) -> None:
        self._bus = bus
        self._flow = flow
        self._clock = clock
        self._instance = instance
        self._waiting: dict[str, WaitingBrowser] = {}
        self._turns: list[set[str]] = [set() for _ in range(RECONCILE_SLICES)]
        self._login_of: dict[str, str] = {}
        self._ends: list[tuple[float, str]] = []
        self._sooner = asyncio.Event()
        self._behind = False
        self._hears = False
        self._tasks: list[BackgroundTask] = []

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
        told = current_event(login)
        self._wait_until(
            login.id, WaitingBrowser(sid, login.app, login.expires_at, login.version, told)
        )
        return former

    def leave(self, sid: str) -> None:
        """The socket has closed; its login goes on and may be resumed on another."""
        login_id = self._login_of.get(sid)
        if login_id is not None:
            self.forget(login_id)

    def forget(self, login_id: str) -> None:
        waiting = self._waiting.pop(login_id, None)
        if waiting is not None:
            self._turns[slice_index(login_id)].discard(login_id)
            del self._login_of[waiting.sid]
            WAITING_BROWSERS.dec()

    async def run(self, push: Push) -> None:
        """Wake browsers through `push` until cancelled."""
        watches = {
            "lobby listener": self._consume_notices,
            "lobby poller": self._reconcile_loop,
            "lobby expiry": self._expire_loop,
        }
        self._tasks = [
            BackgroundTask(name, partial(watch, push)) for name, watch in watches.items()
        ]
        for task in self._tasks:
            task.start()
        try:
            await asyncio.Event().wait()
        finally:
            for task in self._tasks:
                await task.stop()

    def trouble(self) -> str | None:
        """Why browsers are not notified in time; None while they are."""
        troubles = (task.trouble() for task in self._tasks)
        trouble = next(filter(None, troubles), None)
        return trouble or (None if self._hears else "the bus delivers no notices")

    async def _consume_notices(self, push: Push) -> None:
        """Wake browsers by notices; whenever hearing begins, catch up with what was missed."""
        while True:
            try:
                await self._listen(push)
                return  # the bus was closed
            except Unavailable:
                if self._hears:
                    log.warning("no notices are heard; listening afresh")
                    BUS_RESUBSCRIBES.inc()
            finally:
                self._hears = False
            await asyncio.sleep(RETRY_DELAY)

    async def _listen(self, push: Push) -> None:
        async with self._bus.listen(self._instance) as notices:
            self._hears = True
            await self._reconcile(list(self._waiting), push)
            async for notice in notices:
                await self._deliver(notice, push)

    async def _reconcile_loop(self, push: Push) -> None:
        """Ask the state about every browser in turn, for a notice may have been lost."""
        turn = 0
        while True:
            await asyncio.sleep(RECONCILE_INTERVAL / RECONCILE_SLICES)
            turn = (turn + 1) % RECONCILE_SLICES
            await self._reconcile(list(self._waiting if self._behind else self._turns[turn]), push)

    async def _reconcile(self, login_ids: list[str], push: Push) -> None:
        """Tell browsers of every change that they have not heard of."""
        waiting = self._waiting
        try:
            for start in range(0, len(login_ids), RECONCILE_BATCH):
                batch = login_ids[start : start + RECONCILE_BATCH]
                asked = {name: waiting[name] for name in batch if name in waiting}
                known = {name: one.version for name, one in asked.items()}
                for name, login in (await self._flow.get_changed(known)).items():
                    await self._apply_current(asked[name], name, login, push)
        except BrokerError:
            self._behind = True
        else:
            self._behind = False

    async def expire_due(self, push: Push) -> None:
        """Tell every browser whose time has ended what became of its login."""
        now = self._clock()
        due: dict[str, WaitingBrowser] = {}
        while self._ends and self._ends[0][0] <= now:
            end, login_id = heapq.heappop(self._ends)
            waiting = self._waiting.get(login_id)
            if waiting is not None and waiting.expires_at == end:
                due[login_id] = waiting
        if not due:
            return
        try:
            ended = await self._flow.get_changed(dict.fromkeys(due, UNKNOWN_VERSION))
        except BrokerError:
            for login_id, waiting in due.items():
                if self._waiting.get(login_id) is waiting:
                    self._wait_until(login_id, waiting._replace(expires_at=now + RETRY_DELAY))
            return
        for login_id, waiting in due.items():
            await self._apply_current(waiting, login_id, ended[login_id], push)

    async def _apply_current(
        self, asked: WaitingBrowser, login_id: str, login: Login | None, push: Push
    ) -> None:
        """Tell the browser what the state said of its login; None: it is no more."""
        waiting = self._waiting.get(login_id)
        if waiting is not asked:
            return  # it left, or came back or was told more since: asked again in its turn
        if login is not None and login.instance != self._instance:
            self.forget(login_id)  # resumed elsewhere
            return
        event = current_event(login)
        if EVENT_RANK[event] > EVENT_RANK[waiting.last_sent]:
            RECONCILED_CHANGES.inc()
            await self._deliver(Notice(event, login_id), push)
        waiting = self._waiting.get(login_id)
        if waiting is None:
            return
        if login is None or login.state not in OPEN:
            self.forget(login_id)
        else:
            self._wait_until(
                login_id, waiting._replace(expires_at=login.expires_at, version=login.version)
            )

    async def _deliver(self, notice: Notice, push: Push) -> None:
        if notice.event == MOVED_EVENT:
            await self._reconcile([notice.id], push)
            return
        waiting = self._waiting.get(notice.id)
        if waiting is None or not is_new_event(notice.event, waiting.last_sent):
            return
        if notice.event in FINAL_EVENTS:
            self.forget(notice.id)
        else:
            until = waiting.expires_at
            if notice.event == EVENT_BY_STATE[State.CONFIRMED]:
                until = self._clock() + REDEEM_LIFETIME
            self._wait_until(notice.id, waiting._replace(expires_at=until, last_sent=notice.event))
        try:
            await push(waiting.sid, waiting.app, notice)
        except Exception:  # one browser's trouble is not the others'
            log.exception("push failed", login_id=notice.id, notice=notice.event)

    def _wait_until(self, login_id: str, waiting: WaitingBrowser) -> None:
        if login_id not in self._waiting:
            self._turns[slice_index(login_id)].add(login_id)
            WAITING_BROWSERS.inc()
        self._waiting[login_id] = waiting
        heapq.heappush(self._ends, (waiting.expires_at, login_id))
        if len(self._ends) > 2 * len(self._waiting) + HEAP_SLACK:
            # Most ends are of browsers that have left, or were told another end since.
            self._ends = [(one.expires_at, name) for name, one in self._waiting.items()]
            heapq.heapify(self._ends)
        if self._ends[0][1] == login_id:
            self._sooner.set()

    async def _expire_loop(self, push: Push) -> None:
        while True:
            self._sooner.clear()
            await self.expire_due(push)
            pause = self._ends[0][0] - self._clock() if self._ends else None
            try:
                async with asyncio.timeout(pause):
                    await self._sooner.wait()
            except TimeoutError:
                continue
