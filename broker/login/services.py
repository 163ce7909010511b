"""Creates the services of the login feature."""

from __future__ import annotations

from typing import NamedTuple

from broker.apps.ports import Apps
from broker.identity.ports import Directory
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Bus
from broker.infrastructure.observability.feed import NO_FEED, Feed
from broker.login.browser_fields import ScannerProfiles
from broker.login.codes import CodeSource
from broker.login.delivery import Redeemer
from broker.login.device_codes import DeviceCodes
from broker.login.limits import MatchLimit
from broker.login.lobby import Lobby
from broker.login.ports import AuditLog, LoginPolicy, LoginRequests, LoginStore, UserCodes
from broker.login.reader import LoginReader
from broker.login.scanner import Scanner
from broker.login.service import LoginService
from broker.login.writer import LoginWriter
from broker.tokens.issuer import TokenIssuer


class LoginServices(NamedTuple):
    """Services that share one reader and one writer.

    lobby: empty in a process without the role `browser`.
    """

    reader: LoginReader
    writer: LoginWriter
    service: LoginService
    scanner: Scanner
    redeemer: Redeemer
    lobby: Lobby
    device_codes: DeviceCodes
    scanner_profiles: ScannerProfiles


class LoginDependencies(NamedTuple):
    """Stores, services of other features and settings from which the services are made.

    profiles: the directory, with answers that may be some seconds old.
    instance, lifetime, register_lifetime: see `LoginService`.
    scans_max: see `Scanner`.
    """

    logins: LoginStore
    user_codes: UserCodes
    bus: Bus
    apps: Apps
    audit_log: AuditLog
    codes: CodeSource
    directory: Directory
    profiles: Directory
    requests: LoginRequests
    policy: LoginPolicy | None
    issuer: TokenIssuer
    clock: Clock
    instance: str
    lifetime: int
    register_lifetime: int
    scans_max: int
    feed: Feed = NO_FEED


def create_login_services(needs: LoginDependencies) -> LoginServices:
    reader = _reader(needs)
    writer = _writer(needs, reader)
    return LoginServices(
        reader=reader,
        writer=writer,
        service=_service(needs, reader, writer),
        scanner=_scanner(needs, reader, writer),
        redeemer=Redeemer(
            logins=needs.logins,
            reader=reader,
            writer=writer,
            issuer=needs.issuer,
            clock=needs.clock,
        ),
        lobby=Lobby(reader=reader, clock=needs.clock, instance=needs.instance),
        device_codes=DeviceCodes(
            user_codes=needs.user_codes,
            reader=reader,
            codes=needs.codes,
            apps=needs.apps,
            clock=needs.clock,
        ),
        scanner_profiles=ScannerProfiles(apps=needs.apps, profiles=needs.profiles),
    )


def _reader(needs: LoginDependencies) -> LoginReader:
    return LoginReader(
        logins=needs.logins,
        user_codes=needs.user_codes,
        apps=needs.apps,
        audit_log=needs.audit_log,
        clock=needs.clock,
    )


def _writer(needs: LoginDependencies, reader: LoginReader) -> LoginWriter:
    return LoginWriter(
        logins=needs.logins,
        reader=reader,
        bus=needs.bus,
        codes=needs.codes,
        audit_log=needs.audit_log,
        clock=needs.clock,
        feed=needs.feed,
    )


def _service(needs: LoginDependencies, reader: LoginReader, writer: LoginWriter) -> LoginService:
    return LoginService(
        logins=needs.logins,
        reader=reader,
        writer=writer,
        apps=needs.apps,
        codes=needs.codes,
        directory=needs.directory,
        requests=needs.requests,
        match_limit=MatchLimit(),
        clock=needs.clock,
        instance=needs.instance,
        lifetime=needs.lifetime,
        register_lifetime=needs.register_lifetime,
    )


def _scanner(needs: LoginDependencies, reader: LoginReader, writer: LoginWriter) -> Scanner:
    return Scanner(
        reader=reader,
        writer=writer,
        apps=needs.apps,
        clock=needs.clock,
        policy=needs.policy,
        scans_max=needs.scans_max,
    )
