"""The browsers that wait at this instance.

A browser is a socket (`sid`) with one active login. It receives an event when a notice of
its login arrives or when its login expires. A notice may be lost, so the lobby also reads
the state: the logins that have changed, once per `RECONCILE_INTERVAL`, and all logins when the
bus subscription begins.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import structlog

from broker.errors import BrokerError
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Notice
from broker.infrastructure.notices import NoticeHandler
from broker.infrastructure.sharding import SHARDS
from broker.login.events import (
    CONFIRMED_EVENT,
    EVENTS,
    MOVED_EVENT,
    NOTICES,
    current_event,
    is_later_event,
    is_new_event,
)
from broker.login.metrics import RECONCILED_CHANGES, WAITING_BROWSERS
from broker.login.model import OPEN, REDEEM_LIFETIME, Login
from broker.login.reader import UNKNOWN_VERSION, LoginReader

log = structlog.get_logger()

Push = Callable[[str, str, Notice], Awaitable[None]]
"""Sends a notice to a socket; the arguments are the sid, the app id and the notice."""

RECONCILE_INTERVAL = 4.0
"""Seconds in which the changed logins of every shard are read once. A browser receives each
change within 5 s, also if its notice is lost."""

RECONCILE_SLICES = 8
"""Parts of an interval, so that the logins of a full lobby are not read all at once."""

FULL_ROUND_INTERVAL = 15
"""One round in this many reads all logins: an instance of an older version stores no ids of
changed logins."""

READ_BATCH = 1_000
"""Logins of one read at most."""

RETRY_DELAY = 0.5
"""Seconds before a failed operation is repeated."""

HEAP_SHARE, HEAP_SLACK = 1.25, 100
"""The expiry heap is rebuilt above 1.25 entries per browser plus 100. The entry of a browser that
has left takes 200 bytes until its login would expire."""


class WaitingBrowser(NamedTuple):
    """A socket and its login as the lobby last read it.

    app: the login's app.
    last_sent: the last event that was sent; `NO_EVENT` for none.
    confirm_pushed_at: when the event of the confirm was sent; None before.
    """

    sid: str
    app: str
    expires_at: float
    version: int
    last_sent: str
    confirm_pushed_at: float | None = None


class Lobby:
    """Registers browsers and sends them the events of their logins.

    instance: the name of this process on the bus.
    """

    def __init__(self, *, reader: LoginReader, clock: Clock, instance: str) -> None:
        self._reader = reader
        self._clock = clock
        self._instance = instance
        self._waiting: dict[str, WaitingBrowser] = {}
        self._by_shard: dict[str, set[str]] = {shard: set() for shard in SHARDS}
        self._login_by_sid: dict[str, str] = {}
        self._expiries: list[tuple[float, str]] = []
        self._first_expiry_changed = asyncio.Event()
        self._unread: set[str] = (
            set()
        )  # logins to read in the next turn, whether they change or not
        self._tasks: list[BackgroundTask] = []
        self._push: Push  # assigned by `run`

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, sid: str, login: Login) -> str | None:
        """Register the socket of `login`. Returns the id of its previous login, if another."""
        previous = self._login_by_sid.get(sid)
        if previous == login.id:
            previous = None
        if previous is not None:
            self.forget(previous)
        # A socket that the login had before receives no more events.
        self.forget(login.id)
        self._login_by_sid[sid] = login.id
        self._update(
            login.id,
            WaitingBrowser(sid, login.app, login.expires_at, login.version, current_event(login)),
        )
        return previous

    def leave(self, sid: str) -> None:
        """Remove a closed socket. Its login can be resumed on another socket."""
        login_id = self._login_by_sid.get(sid)
        if login_id is not None:
            self.forget(login_id)

    def forget(self, login_id: str) -> None:
        """Remove the browser of a login, if there is one."""
        waiting = self._waiting.pop(login_id, None)
        if waiting is not None:
            self._by_shard[login_id[0]].discard(login_id)
            self._unread.discard(login_id)
            del self._login_by_sid[waiting.sid]
            WAITING_BROWSERS.dec()
            self._remove_stale_expiries()

    def confirm_pushed_at(self, login_id: str) -> float | None:
        """Return when the event of the confirm was sent to the browser; None if it was not."""
        waiting = self._waiting.get(login_id)
        return None if waiting is None else waiting.confirm_pushed_at

    async def run(self, push: Push) -> None:
        """Send events to browsers by `push` until cancelled."""
        self._push = push
        loops = {
            "lobby poller": self._reconcile_loop,
            "lobby expiry": self._expire_loop,
        }
        self._tasks = [BackgroundTask(name, loop) for name, loop in loops.items()]
        for task in self._tasks:
            task.start()
        try:
            await asyncio.Event().wait()
        finally:
            for task in self._tasks:
                await task.stop()

    def login_ids(self, *, app: str | None, after: str, limit: int) -> list[str]:
        """Return the first `limit` logins after this id, of one app or of all.

        It looks at every browser, so it is for operators only.
        """
        found = (
            name
            for name, browser in self._waiting.items()
            if name > after and app in (None, browser.app)
        )
        return heapq.nsmallest(limit, found)

    def unready_reason(self) -> str | None:
        """Return why browsers receive their events late, or None if they do not."""
        if not self._tasks:
            return "the task lobby is not running"
        reasons = (task.unready_reason() for task in self._tasks)
        return next(filter(None, reasons), None)

    def notice_handler(self) -> NoticeHandler:
        return NoticeHandler(NOTICES, self._deliver, self._reconcile_all)

    async def _reconcile_all(self) -> None:
        await self._reconcile(list(self._waiting))

    async def _reconcile_loop(self) -> None:
        """Read the changed logins of some shards at a time, because a notice may have been lost."""
        for turn in itertools.count():
            await asyncio.sleep(RECONCILE_INTERVAL / RECONCILE_SLICES)
            finished_rounds, part = divmod(turn, RECONCILE_SLICES)
            shards = [one for one in SHARDS[part::RECONCILE_SLICES] if self._by_shard[one]]
            is_full = finished_rounds % FULL_ROUND_INTERVAL == 0
            await self._reconcile(await self._changed_in(shards, is_full=is_full))

    async def _changed_in(self, shards: Sequence[str], *, is_full: bool) -> list[str]:
        """Return the logins in these shards that may have changed, and those not read before."""
        changes = await self._reader.take_changes(self._instance, shards)
        whole = shards if is_full else changes.shards
        due = self._unread.union(changes.ids, *(self._by_shard[shard] for shard in whole))
        return [login_id for login_id in due if login_id in self._waiting]

    async def _reconcile(self, login_ids: list[str]) -> None:
        """Read the logins and send the events that their browsers have missed."""
        waiting = self._waiting
        self._unread.difference_update(login_ids)
        try:
            for start in range(0, len(login_ids), READ_BATCH):
                batch = login_ids[start : start + READ_BATCH]
                before = {name: waiting[name] for name in batch if name in waiting}
                known = {name: browser.version for name, browser in before.items()}
                for name, login in (await self._reader.get_changed(known)).items():
                    await self._apply_current(before[name], name, login)
        except BrokerError:
            self._unread.update(waiting)  # the state may have lost the changes of all shards

    async def expire_due(self) -> None:
        """Read logins that should have expired by now and send the events they have led to.

        It handles the first `READ_BATCH` of them. The others are due at the next call.
        """
        now = self._clock()
        due = self._take_due(now)
        if not due:
            return
        try:
            current = await self._reader.get_changed(dict.fromkeys(due, UNKNOWN_VERSION))
        except BrokerError:
            for login_id, waiting in due.items():
                if self._waiting.get(login_id) is waiting:
                    self._update(login_id, waiting._replace(expires_at=now + RETRY_DELAY))
            return
        for login_id, waiting in due.items():
            await self._apply_current(waiting, login_id, current[login_id])

    def _take_due(self, now: float) -> dict[str, WaitingBrowser]:
        """Remove heap entries up to `now`. Returns browsers whose logins expire then.

        It stops at `READ_BATCH` browsers.
        """
        due: dict[str, WaitingBrowser] = {}
        while len(due) < READ_BATCH and self._expiries and self._expiries[0][0] <= now:
            expires_at, login_id = heapq.heappop(self._expiries)
            waiting = self._waiting.get(login_id)
            if waiting is not None and waiting.expires_at == expires_at:
                due[login_id] = waiting
        return due

    async def _apply_current(
        self, before: WaitingBrowser, login_id: str, login: Login | None
    ) -> None:
        """Send the event that the stored login implies, and update or remove its browser.

        before: the browser when the read began.
        login: None if it is no longer stored.
        """
        if login is not None:
            self._reader.record_if_expired(login)
        waiting = self._waiting.get(login_id)
        if waiting is not before:
            if waiting is not None:  # it has changed during the read
                self._unread.add(login_id)
            return
        if login is not None and login.instance != self._instance:
            self.forget(login_id)  # resumed at another instance
            return
        event = current_event(login)
        if is_later_event(event, before.last_sent):
            RECONCILED_CHANGES.inc()
            await self._deliver(Notice(event, login_id))
        waiting = self._waiting.get(login_id)
        if waiting is None:
            return
        if login is None or login.state not in OPEN:
            self.forget(login_id)
        else:
            self._update(
                login_id, waiting._replace(expires_at=login.expires_at, version=login.version)
            )

    async def _deliver(self, notice: Notice) -> None:
        """Send a notice to its browser if it reports a new event."""
        if notice.event == MOVED_EVENT:
            await self._reconcile([notice.id])
            return
        waiting = self._waiting.get(notice.id)
        if waiting is None or not is_new_event(notice.event, waiting.last_sent):
            return
        if EVENTS[notice.event].is_final:
            self.forget(notice.id)
        else:
            sent = waiting._replace(last_sent=notice.event)
            if notice.event == CONFIRMED_EVENT:
                now = self._clock()
                sent = sent._replace(expires_at=now + REDEEM_LIFETIME, confirm_pushed_at=now)
            self._update(notice.id, sent)
        try:
            await self._push(waiting.sid, waiting.app, notice)
        except Exception:  # a failure of one browser does not affect the others
            log.exception("push failed", login_id=notice.id, notice=notice.event)

    def _update(self, login_id: str, waiting: WaitingBrowser) -> None:
        """Add or replace the browser of a login and schedule its expiry."""
        if login_id not in self._waiting:
            self._by_shard[login_id[0]].add(login_id)
            WAITING_BROWSERS.inc()
        self._waiting[login_id] = waiting
        heapq.heappush(self._expiries, (waiting.expires_at, login_id))
        self._remove_stale_expiries()
        if self._expiries[0][1] == login_id:
            self._first_expiry_changed.set()

    def _remove_stale_expiries(self) -> None:
        """Rebuild the heap if many of its browsers have left or have another expiry time now."""
        if len(self._expiries) > HEAP_SHARE * len(self._waiting) + HEAP_SLACK:
            self._expiries = [(browser.expires_at, name) for name, browser in self._waiting.items()]
            heapq.heapify(self._expiries)

    async def _expire_loop(self) -> None:
        while True:
            self._first_expiry_changed.clear()
            await self.expire_due()
            delay = self._expiries[0][0] - self._clock() if self._expiries else None
            try:
                async with asyncio.timeout(delay):
                    await self._first_expiry_changed.wait()
            except TimeoutError:
                continue
