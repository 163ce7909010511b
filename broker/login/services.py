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


def create_login_services(
    *,
    logins: LoginStore,
    user_codes: UserCodes,
    bus: Bus,
    apps: Apps,
    audit_log: AuditLog,
    codes: CodeSource,
    directory: Directory,
    profiles: Directory,
    requests: LoginRequests,
    policy: LoginPolicy | None,
    issuer: TokenIssuer,
    clock: Clock,
    instance: str,
    lifetime: int,
    register_lifetime: int,
    scans_max: int,
    feed: Feed = NO_FEED,
) -> LoginServices:
    """Create the services. See `LoginService` and `Scanner` for the last four arguments.

    profiles: the directory, with answers that may be some seconds old.
    """
    reader = LoginReader(
        logins=logins, user_codes=user_codes, apps=apps, audit_log=audit_log, clock=clock
    )
    writer = LoginWriter(
        logins=logins,
        reader=reader,
        bus=bus,
        codes=codes,
        audit_log=audit_log,
        clock=clock,
        feed=feed,
    )
    service = LoginService(
        logins=logins,
        reader=reader,
        writer=writer,
        apps=apps,
        codes=codes,
        directory=directory,
        requests=requests,
        match_limit=MatchLimit(),
        clock=clock,
        instance=instance,
        lifetime=lifetime,
        register_lifetime=register_lifetime,
    )
    redeemer = Redeemer(logins=logins, reader=reader, writer=writer, issuer=issuer, clock=clock)
    scanner = Scanner(
        reader=reader, writer=writer, apps=apps, clock=clock, policy=policy, scans_max=scans_max
    )
    lobby = Lobby(reader=reader, clock=clock, instance=instance)
    device_codes = DeviceCodes(
        user_codes=user_codes, reader=reader, codes=codes, apps=apps, clock=clock
    )
    profiles_of_scanners = ScannerProfiles(apps=apps, profiles=profiles)
    return LoginServices(
        reader, writer, service, scanner, redeemer, lobby, device_codes, profiles_of_scanners
    )
