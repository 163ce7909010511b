"""The browsers that wait at this instance: who, until when, woken by what.

A browser is a socket (`sid`) with one live login.  It is woken by a notice from
the bus, or by the end of its login's time.  A notice may be lost and the state
is truth: so it is asked about every browser once in `ROUND`, and about all of
them whenever hearing begins anew.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NamedTuple

import structlog

from broker.background import BackgroundTask
from broker.bus import Bus
from broker.errors import BrokerError, Unavailable
from broker.flow import EVENTS, MOVED, UNREGISTERED, Flow
from broker.login import OPEN, REDEEM_LIFETIME, Login, Notice, State
from broker.metrics import DEAF, FOUND, WAITING
from broker.state import Clock

log = structlog.get_logger()

Push = Callable[[str, str, Notice], Awaitable[None]]
"""Tells a socket: sid, app id, notice."""

LAST_EVENTS = frozenset({EVENTS[State.DENIED], EVENTS[State.EXPIRED]})
"""After these nothing more can come."""

RANK: Mapping[str, int] = {
    "": 0,
    EVENTS[State.SCANNED]: 1,
    UNREGISTERED: 2,
    EVENTS[State.CONFIRMED]: 3,
    EVENTS[State.DENIED]: 4,
    EVENTS[State.EXPIRED]: 4,
}
"""Events in the order in which one login may bring them; "" is none yet."""

AGAIN = frozenset({UNREGISTERED, EVENTS[State.CONFIRMED]})
"""Events that one login may bring twice, and each time it is said: a person tries to
confirm before being registered; a confirm that a failed master took with it is made
anew.  Any other is said once."""

ROUND = 4.0
"""Seconds in which the state is asked about every browser once: a browser hears of
what its phone was told within 5 s, whatever became of the notice."""

SLICES = 8
"""Parts of a round, so that a full lobby is never asked about at once."""

BATCH = 1_000
"""Browsers asked about in one go where all of them are."""

RETRY = 0.5
"""Seconds until what failed is tried again."""

SLACK = 100
"""Ends in the heap beyond twice the browsers that wait, before it is built anew."""


NO_VERSION = -1
"""Of no login: whoever knows this one is told how a login stands, changed or not."""


class Waiting(NamedTuple):
    """version: of the login, when the state was last asked.  told: the last event; "" for none."""

    sid: str
    app: str
    until: float
    version: int
    told: str


def slice_of(login_id: str) -> int:
    """Which part of a round a login has its turn in: always the same one, whoever else waits."""
    return ord(login_id[0]) % SLICES


def news_of(login: Login | None) -> str:
    """What a browser should have heard by now of a login; "" is nothing."""
    if login is None:
        return EVENTS[State.EXPIRED]
    if login.unregistered and login.state is State.SCANNED:
        return UNREGISTERED
    return EVENTS.get(login.state, "")


def is_news(event: str, told: str) -> bool:
    """Whether a browser that was `told` one thing wants to hear `event`."""
    return RANK.get(event, 0) > RANK[told] or (event == told and event in AGAIN)


class Lobby:
    """instance: this process's name on the bus."""

    def __init__(self, *, bus: Bus, flow: Flow, clock: Clock, instance: str) -> None:
        self._bus = bus
        self._flow = flow
        self._clock = clock
        self._instance = instance
        self._waiting: dict[str, Waiting] = {}
        self._turns: list[set[str]] = [set() for _ in range(SLICES)]
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
        told = news_of(login)
        self._wait_until(login.id, Waiting(sid, login.app, login.expires_at, login.version, told))
        return former

    def leave(self, sid: str) -> None:
        """The socket has closed; its login goes on and may be resumed on another."""
        login_id = self._login_of.get(sid)
        if login_id is not None:
            self.forget(login_id)

    def forget(self, login_id: str) -> None:
        waiting = self._waiting.pop(login_id, None)
        if waiting is not None:
            self._turns[slice_of(login_id)].discard(login_id)
            del self._login_of[waiting.sid]
            WAITING.dec()

    async def run(self, push: Push) -> None:
        """Wake browsers through `push` until cancelled."""
        watches = {
            "lobby listener": self._hear,
            "lobby poller": self._look_round,
            "lobby expiry": self._watch_ends,
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

    async def _hear(self, push: Push) -> None:
        """Wake browsers by notices; whenever hearing begins, catch up with what was missed."""
        while True:
            try:
                await self._listen(push)
                return  # the bus was closed
            except Unavailable:
                if self._hears:
                    log.warning("no notices are heard; listening afresh")
                    DEAF.inc()
            finally:
                self._hears = False
            await asyncio.sleep(RETRY)

    async def _listen(self, push: Push) -> None:
        async with self._bus.listen(self._instance) as notices:
            self._hears = True
            await self._look_again(list(self._waiting), push)
            async for notice in notices:
                await self._wake(notice, push)

    async def _look_round(self, push: Push) -> None:
        """Ask the state about every browser in turn, for a notice may have been lost."""
        turn = 0
        while True:
            await asyncio.sleep(ROUND / SLICES)
            turn = (turn + 1) % SLICES
            await self._look_again(list(self._waiting if self._behind else self._turns[turn]), push)

    async def _look_again(self, login_ids: list[str], push: Push) -> None:
        """Tell browsers of every change that they have not heard of."""
        waiting = self._waiting
        try:
            for start in range(0, len(login_ids), BATCH):
                batch = login_ids[start : start + BATCH]
                asked = {name: waiting[name] for name in batch if name in waiting}
                known = {name: one.version for name, one in asked.items()}
                for name, login in (await self._flow.changed(known)).items():
                    await self._settle(asked[name], name, login, push)
        except BrokerError:
            self._behind = True
        else:
            self._behind = False

    async def expire(self, push: Push) -> None:
        """Tell every browser whose time has ended what became of its login."""
        now = self._clock()
        due: dict[str, Waiting] = {}
        while self._ends and self._ends[0][0] <= now:
            end, login_id = heapq.heappop(self._ends)
            waiting = self._waiting.get(login_id)
            if waiting is not None and waiting.until == end:
                due[login_id] = waiting
        if not due:
            return
        try:
            ended = await self._flow.changed(dict.fromkeys(due, NO_VERSION))
        except BrokerError:
            for login_id, waiting in due.items():
                if self._waiting.get(login_id) is waiting:
                    self._wait_until(login_id, waiting._replace(until=now + RETRY))
            return
        for login_id, waiting in due.items():
            await self._settle(waiting, login_id, ended[login_id], push)

    async def _settle(self, asked: Waiting, login_id: str, login: Login | None, push: Push) -> None:
        """Tell the browser what the state said of its login; None: it is no more."""
        waiting = self._waiting.get(login_id)
        if waiting is not asked:
            return  # it left, or came back or was told more since: asked again in its turn
        if login is not None and login.instance != self._instance:
            self.forget(login_id)  # resumed elsewhere
            return
        event = news_of(login)
        if RANK[event] > RANK[waiting.told]:
            FOUND.inc()
            await self._wake(Notice(event, login_id), push)
        waiting = self._waiting.get(login_id)
        if waiting is None:
            return
        if login is None or login.state not in OPEN:
            self.forget(login_id)
        else:
            self._wait_until(
                login_id, waiting._replace(until=login.expires_at, version=login.version)
            )

    async def _wake(self, notice: Notice, push: Push) -> None:
        if notice.event == MOVED:
            await self._look_again([notice.login_id], push)
            return
        waiting = self._waiting.get(notice.login_id)
        if waiting is None or not is_news(notice.event, waiting.told):
            return
        if notice.event in LAST_EVENTS:
            self.forget(notice.login_id)
        else:
            until = waiting.until
            if notice.event == EVENTS[State.CONFIRMED]:
                until = self._clock() + REDEEM_LIFETIME
            self._wait_until(notice.login_id, waiting._replace(until=until, told=notice.event))
        try:
            await push(waiting.sid, waiting.app, notice)
        except Exception:  # one browser's trouble is not the others'
            log.exception("push failed", login_id=notice.login_id, notice=notice.event)

    def _wait_until(self, login_id: str, waiting: Waiting) -> None:
        if login_id not in self._waiting:
            self._turns[slice_of(login_id)].add(login_id)
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
