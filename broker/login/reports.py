"""Reports of logins: "that was not me"."""

from __future__ import annotations

from contextlib import suppress

import structlog

from broker.apps.ports import Apps
from broker.identity.model import Phone
from broker.infrastructure.clock import Clock
from broker.login.errors import LoginError, UnknownReport
from broker.login.model import Act, ConfirmedLogin, Login, State
from broker.login.ports import AuditLog, LoginReports, ReportedLogin, SignInEnds
from broker.login.reader import LoginReader
from broker.login.writer import LoginWriter

log = structlog.get_logger()


class LoginReporter:
    """Ends what a reported login has begun, and informs its app.

    Only the person who confirmed a login may report it. The stored login shows who that is
    for a few minutes, and the audit log afterwards.
    """

    def __init__(
        self,
        *,
        reader: LoginReader,
        writer: LoginWriter,
        apps: Apps,
        audit_log: AuditLog,
        sign_ins: SignInEnds,
        reports: LoginReports,
        clock: Clock,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._apps = apps
        self._audit_log = audit_log
        self._sign_ins = sign_ins
        self._reports = reports
        self._clock = clock

    async def report(self, login_id: str, phone: Phone) -> int:
        """Report a login, and return how many sign-in sessions ended.

        A confirmed login that has not been redeemed is cancelled. The app is informed once.
        A repeat ends what it finds; otherwise it changes nothing.
        Raises UnknownReport for every login that `phone` has not confirmed, and Unavailable.
        """
        login = await self._reader.get(login_id)
        if login is not None and login.state is State.CONFIRMED and login.phone == phone:
            login = await self._cancel(login)
        recorded = await self._audit_log.find(login_id)  # also writes a queued row
        confirmed = recorded if login is None else _confirmed(login)
        if confirmed is None or not self._is_of(confirmed, phone):
            raise UnknownReport
        now = self._clock()
        is_first = await self._audit_log.report(login_id, now=now)
        ended = await self._sign_ins.end_of_login(confirmed.subject, login_id)
        if is_first or ended:
            log.warning("login reported", login_id=login_id, app=confirmed.app, ended=ended)
        if is_first:
            await self._reports.login_reported(
                ReportedLogin(
                    confirmed.app, confirmed.incarnation, login_id, confirmed.subject, now
                )
            )
        return ended

    async def _cancel(self, login: Login) -> Login:
        with suppress(LoginError):  # the browser has redeemed it meanwhile
            return await self._writer.apply_and_store(login, Act.CANCEL)
        return await self._reader.require(login.id)

    def _is_of(self, confirmed: ConfirmedLogin, phone: Phone) -> bool:
        """Return whether `phone` has confirmed the login, and no other app has its app's id."""
        app = self._apps.get(confirmed.app)
        if app is not None and app.incarnation != confirmed.incarnation:
            return False
        scanned_by = confirmed.app if app is None else app.scanned_by
        person = (phone.identity.provider, phone.identity.id)
        return phone.app == scanned_by and person == (confirmed.provider, confirmed.openid)


def _confirmed(login: Login) -> ConfirmedLogin | None:
    if login.phone is None or login.subject is None or login.confirmed_at is None:
        return None
    identity = login.phone.identity
    return ConfirmedLogin(
        login.app, login.incarnation, identity.provider, identity.id, login.subject, None
    )
