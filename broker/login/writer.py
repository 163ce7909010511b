"""Stores changes of logins and notifies the instance where the browser waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

import structlog

from broker.errors import Unavailable
from broker.infrastructure.background import BackgroundTasks
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Bus, Notice
from broker.infrastructure.observability.feed import NO_FEED, Feed
from broker.login.codes import CodeSource
from broker.login.events import current_event
from broker.login.metrics import CODES_SHARED, login_counter
from broker.login.model import OPEN, Act, Login, Reason
from broker.login.ports import AuditLog, LoginStore, SwapResult
from broker.login.reader import LoginReader, log_end
from broker.login.rules import Details, apply
from broker.login.step_times import observe_step

log = structlog.get_logger()

CLOSE_TIMEOUT = 3.0
"""Seconds to wait for codes to be returned when the process ends."""


class LoginWriter:
    """Stores changes of logins by compare-and-set.

    A change is stored before a notice of it is sent. If the notice cannot be sent, the
    change remains valid and the browser's instance reads it from the state.
    """

    def __init__(
        self,
        *,
        logins: LoginStore,
        reader: LoginReader,
        bus: Bus,
        codes: CodeSource,
        audit_log: AuditLog,
        clock: Clock,
        feed: Feed = NO_FEED,
    ) -> None:
        self._logins = logins
        self._reader = reader
        self._bus = bus
        self._codes = codes
        self._audit_log = audit_log
        self._clock = clock
        self._feed = feed
        self._returns = BackgroundTasks()

    async def close(self) -> None:
        """Wait up to `CLOSE_TIMEOUT` for pending code returns."""
        await self._returns.close(grace=CLOSE_TIMEOUT)

    async def apply_and_store(
        self,
        login: Login,
        act: Act,
        **details: Unpack[Details],
    ) -> Login:
        """Apply `act`, store the result and return it. A repeated act changes nothing.

        Raises a LoginError; nothing is stored then.
        """
        return await self.change_and_store(
            login, lambda before: apply(before, act, now=self._clock(), **details)
        )

    async def change_and_store(self, login: Login, change: Callable[[Login], Login]) -> Login:
        """Store the result of `change` and return it, unless it is the same object.

        If the login was changed meanwhile, it is read and `change` is called again.
        A login that is finished is recorded and its code is returned.
        """
        while True:
            after = change(login)
            if after is login:
                return after
            event = None if after.state is login.state else current_event(after)
            if await self.swap_and_publish(login, after, event):
                if after.state is not login.state:
                    self._finish(after)
                return after
            login = await self._reader.require(login.id)

    async def swap_and_publish(self, before: Login, after: Login, event: str | None) -> bool:
        """Store a change and send `event` to the instance of `before`, if it has one.

        Returns False if the login was changed meanwhile.
        """
        notice = Notice(event, before.id) if event and before.instance else None
        result = await self._logins.swap(before, after, notice)
        if result is SwapResult.STORED and notice is not None:
            await self.publish(before.instance, notice)
        return result is not SwapResult.CONFLICT

    async def publish(self, instance: str, notice: Notice) -> None:
        """Send a notice to the browser's instance. Does nothing if `instance` is empty."""
        if not instance:
            return
        try:
            await self._bus.publish(instance, notice)
        except Unavailable as error:
            log.warning(
                "notice not sent",
                login_id=notice.id,
                notice=notice.event,
                reason=str(error),
            )

    def return_code(self, login: Login) -> None:
        """Return the code of a login to its pool, in the background."""
        if login.lease is not None:
            self._returns.spawn("code return", self._codes.return_code(login))

    def announce(self, login: Login) -> None:
        """Count the login's state, and show it to operators who watch this instance."""
        login_counter(login.app, login.state).inc()
        self._feed.publish("login", login.state, id=login.id, app=login.app)

    def _finish(self, login: Login) -> None:
        """Announce the login's new state; record it and return its code if it is finished."""
        observe_step(login)
        self.announce(login)
        if login.reason == Reason.SHARED:
            CODES_SHARED.labels(login.app).inc()
        if login.state not in OPEN:
            now = self._clock()
            log_end(login, now)
            self._audit_log.record(login, now=now)
            self.return_code(login)
