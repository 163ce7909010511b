"""The reporter of logins: proofs, the audit log and the event."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from broker.apps.registry import AppRegistry
from broker.login.errors import UnknownReport
from broker.login.ports import LOGIN_RETENTION, ReportedLogin
from broker.login.reports import LoginReporter
from broker.state import StateBackend
from tests.support.builders import (
    ALICE,
    BOB,
    FIREFOX,
    OTHER,
    SHOP,
    Clock,
    LoginMethods,
    RecordingAuditLog,
)


class RecordingSignIns:
    """Sign-in sessions: each login has one until it is ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []

    async def end_of_login(self, subject: str, login_id: str) -> int:
        is_first = (subject, login_id) not in self.ended
        self.ended.append((subject, login_id))
        return int(is_first)


class RecordingReports:
    def __init__(self) -> None:
        self.reports: list[ReportedLogin] = []

    async def login_reported(self, report: ReportedLogin) -> None:
        self.reports.append(report)


class Desk(NamedTuple):
    """A reporter and what it has done."""

    service: LoginMethods
    reporter: LoginReporter
    sign_ins: RecordingSignIns
    reports: RecordingReports

    async def redeemed(self) -> str:
        new_login = await self.service.begin("shop", FIREFOX, has_socket=True)
        await self.service.scan(new_login.login.scene, ALICE)
        await self.service.confirm(new_login.login.id, ALICE)
        await self.service.redeem(new_login.login.id, new_login.secret, app="shop")
        return new_login.login.id


@pytest.fixture
def desk(
    make_login_service: Callable[..., LoginMethods], trail: RecordingAuditLog, clock: Clock
) -> Desk:
    service = make_login_service()
    sign_ins, reports = RecordingSignIns(), RecordingReports()
    reporter = LoginReporter(
        reader=service.reader,
        writer=service.writer,
        apps=AppRegistry([SHOP, OTHER]),
        audit_log=trail,
        sign_ins=sign_ins,
        reports=reports,
        clock=clock,
    )
    return Desk(service, reporter, sign_ins, reports)


async def test_app_is_informed_of_a_report_once(desk: Desk, clock: Clock) -> None:
    login_id = await desk.redeemed()

    await desk.reporter.report(login_id, ALICE)
    await desk.reporter.report(login_id, ALICE)

    assert desk.reports.reports == [ReportedLogin("shop", "", login_id, "pretend:alice", clock())]


async def test_repeated_report_is_logged_once(desk: Desk) -> None:
    login_id = await desk.redeemed()

    with capture_logs() as logs:
        for _ in range(3):
            await desk.reporter.report(login_id, ALICE)

    assert [entry["event"] for entry in logs] == ["login reported"]


async def test_report_ends_the_sessions_of_the_login(desk: Desk) -> None:
    login_id = await desk.redeemed()

    assert await desk.reporter.report(login_id, ALICE) == 1

    assert desk.sign_ins.ended == [("pretend:alice", login_id)]


async def test_late_report_is_checked_by_the_audit_log(
    desk: Desk, clock: Clock, store: StateBackend
) -> None:
    login_id = await desk.redeemed()
    clock.time += 10 * LOGIN_RETENTION
    assert await store.logins.get(login_id) is None

    assert await desk.reporter.report(login_id, ALICE) == 1


@pytest.mark.parametrize("phone", [BOB, ALICE._replace(app="other")], ids=["person", "app"])
@pytest.mark.parametrize("age", [0, 10 * LOGIN_RETENTION])
async def test_other_phone_cannot_report(desk: Desk, clock: Clock, phone: object, age: int) -> None:
    login_id = await desk.redeemed()
    clock.time += age

    with pytest.raises(UnknownReport):
        await desk.reporter.report(login_id, phone)  # type: ignore[arg-type]

    assert not desk.sign_ins.ended
    assert not desk.reports.reports


async def test_unknown_login_cannot_be_reported(desk: Desk) -> None:
    with pytest.raises(UnknownReport):
        await desk.reporter.report("unknown", ALICE)
