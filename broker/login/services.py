"""Creates the services of the login feature."""

from __future__ import annotations

from typing import NamedTuple

from broker.apps.ports import Apps
from broker.identity.ports import Directory
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import Bus
from broker.infrastructure.observability.feed import NO_FEED, Feed
from broker.login.codes import CodeSource
from broker.login.delivery import Redeemer
from broker.login.limits import MatchLimit
from broker.login.lobby import Lobby
from broker.login.ports import AuditLog, LoginPolicy, LoginRequests, LoginStore
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


def create_login_services(
    *,
    logins: LoginStore,
    bus: Bus,
    apps: Apps,
    audit_log: AuditLog,
    codes: CodeSource,
    directory: Directory,
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
    """Create the services. See `LoginService` and `Scanner` for the last four arguments."""
    reader = LoginReader(logins=logins, apps=apps, audit_log=audit_log, clock=clock)
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
    return LoginServices(reader, writer, service, scanner, redeemer, lobby)
