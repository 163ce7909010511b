"""The audit log: one row for each finished login and each other entry.

Rows contain no secrets, no scenes and no hashes of them.

Logins never wait for it. Rows are queued in memory and written in batches, once a second. While
the database is down, up to `QUEUE_MAX` rows wait. Further rows are lost, and so are the queued
rows of an instance that is killed.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from itertools import islice

import structlog
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.audit.model import AuditEntry, AuditKind
from broker.infrastructure.observability.metrics import Counter
from broker.infrastructure.observability.outage import OutageLog
from broker.login.model import ConfirmedLogin, Login, State
from broker.records import tables as t
from broker.records.audit_export import delete_before
from broker.records.database import INSERT, Database
from broker.records.errors import RecordsUnavailable

log = structlog.get_logger()

QUEUE_MAX = 20_000
"""Rows that may wait: about 20 MB, or two minutes of 150 logins a second."""

BATCH_SIZE = 500

FLUSH_INTERVAL = 1.0
"""Seconds between two batches, so that one transaction has many rows."""

RETRY_DELAY = 5.0
"""Seconds before a retry while the database is down."""

FLUSH_TIMEOUT = 2.0
"""Seconds for the last rows when the process ends."""

PRUNE_INTERVAL = 3600.0

TEXT_MAX = 256


class SqlAuditLog:
    """Queues finished logins, other entries, and reuses of refresh tokens, and writes them.

    lifetime: seconds for which a row is kept.
    clock: Unix time in seconds.
    instance: the name of this process, for entries other than logins.
    """

    def __init__(
        self,
        database: Database,
        *,
        lifetime: int,
        clock: Callable[[], float],
        instance: str = "",
    ) -> None:
        self._database = database
        self._lifetime = lifetime
        self._clock = clock
        self._instance = instance
        self._queue: dict[str, dict[str, object]] = {}  # by login, oldest first
        self._reuses: dict[str, float] = {}  # time of the first reuse by login
        self._has_rows = asyncio.Event()
        self._pruned_at = -PRUNE_INTERVAL
        self._outage = OutageLog("audit log unavailable", "audit log recovered")

    def record(self, login: Login, *, now: float) -> None:
        if login.id not in self._queue:
            self._put(login.id, _row(login, now))

    def add(self, entry: AuditEntry) -> None:
        row_id = f"{entry.kind}-{entry.id or secrets.token_urlsafe(16)}"
        self._put(row_id, _entry_row(row_id, entry, self._instance))

    def record_reuse(
        self, login_id: str, *, app: str, incarnation: str, subject: str, now: float
    ) -> None:
        if len(self._reuses) >= QUEUE_MAX:
            AUDIT_DROPPED.inc()
            return
        self._reuses.setdefault(login_id, now)
        self.add(
            AuditEntry(
                AuditKind.REFRESH,
                "reused",
                now,
                app=app,
                incarnation=incarnation,
                subject=subject,
                target=login_id,
                id=login_id,
            )
        )

    def _put(self, row_id: str, row: dict[str, object]) -> None:
        """Queue a row, once: repeated requests for a login take one entry of the queue only."""
        if row_id in self._queue:
            return
        if len(self._queue) >= QUEUE_MAX:
            AUDIT_DROPPED.inc()
            return
        self._queue[row_id] = row
        self._has_rows.set()

    async def find(self, login_id: str) -> ConfirmedLogin | None:
        """Return a login that a person confirmed, or None. Raises RecordsUnavailable.

        Queued rows are written first, so that a report right after the end of a login is
        accepted.
        """
        if login_id in self._queue:
            await self.store_queued()
        columns, ends = t.ended_logins.c, (State.REDEEMED.value, State.EXPIRED.value)
        found = (
            select(t.ended_logins)
            .where(columns.login_id == login_id, columns.subject.is_not(None))
            .where(columns.state.in_(ends))
        )
        async with self._database.read_connection() as connection:
            row = (await connection.execute(found)).mappings().one_or_none()
        if row is None:
            return None
        return ConfirmedLogin(
            row["app"],
            row["app_incarnation"] or "",
            row["provider"],
            row["openid"],
            row["subject"],
            row["reported_at"],
        )

    async def report(self, login_id: str, *, now: float) -> bool:
        """Record a report. Return whether it is the first one of this login.

        A login without a row stays without a report. A repeat writes nothing, and so does not wait
        for other writes. Raises RecordsUnavailable.
        """
        columns = t.ended_logins.c
        first = columns.login_id == login_id, columns.reported_at.is_(None)
        async with self._database.read_connection() as connection:
            unreported = select(columns.login_id).where(*first)
            if (await connection.execute(unreported)).one_or_none() is None:
                return False
        async with self._database.write_transaction() as connection:
            updated = await connection.execute(
                update(t.ended_logins).where(*first).values(reported_at=now)
            )
            if updated.rowcount:
                await self._add_report(connection, login_id, now)
        return bool(updated.rowcount)

    async def _add_report(self, connection: AsyncConnection, login_id: str, now: float) -> None:
        """Store a report as a separate entry, because numbered rows do not change."""
        columns = t.ended_logins.c
        found = select(columns.app, columns.app_incarnation, columns.subject).where(
            columns.login_id == login_id
        )
        login = (await connection.execute(found)).one()
        entry = AuditEntry(
            AuditKind.LOGIN,
            "reported",
            now,
            app=login.app,
            incarnation=login.app_incarnation or "",
            subject=login.subject,
            target=login_id,
            reason="reported",
        )
        row = _entry_row(f"report-{login_id}", entry, self._instance)
        await connection.execute(insert(t.ended_logins).values(row))

    async def write_forever(self) -> None:
        """Write queued rows until cancelled, and log the begin and end of an outage."""
        while True:
            await self._has_rows.wait()
            await asyncio.sleep(RETRY_DELAY if self._outage.failures else FLUSH_INTERVAL)
            try:
                await self.store_queued()
                await self._prune()
                self._outage.recovered()
            except RecordsUnavailable as error:
                self._outage.failed(error.reason)

    async def flush(self) -> None:
        """Write the queued rows within `FLUSH_TIMEOUT`. Log and count rows that are lost."""
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await self.store_queued()
        except (RecordsUnavailable, TimeoutError):
            lost = len(self._queue) + len(self._reuses)
            log.warning("audit log rows lost", count=lost)
            AUDIT_DROPPED.inc(lost)

    async def store_queued(self) -> None:
        """Write the queued rows now. Raises RecordsUnavailable."""
        while self._queue:
            batch = dict(islice(self._queue.items(), BATCH_SIZE))
            insert = INSERT[self._database.dialect](t.ended_logins)
            async with self._database.write_transaction() as connection:
                await connection.execute(insert.on_conflict_do_nothing(), [*batch.values()])
            for login_id in batch:
                self._queue.pop(login_id, None)
        await self._write_reuses()
        if not self._queue:  # rows may have been queued during the last transaction
            self._has_rows.clear()

    async def _write_reuses(self) -> None:
        """Write the queued reuses. A login without a row stays without one."""
        columns = t.ended_logins.c
        first = columns.login_id == bindparam("login"), columns.reused_at.is_(None)
        statement = update(t.ended_logins).where(*first).values(reused_at=bindparam("at"))
        while self._reuses:
            batch = dict(islice(self._reuses.items(), BATCH_SIZE))
            values = [{"login": login_id, "at": at} for login_id, at in batch.items()]
            async with self._database.write_transaction() as connection:
                await connection.execute(statement, values)
            for login_id in batch:
                self._reuses.pop(login_id, None)

    async def _prune(self) -> None:
        """Delete rows older than `lifetime`, at most once in `PRUNE_INTERVAL`."""
        if time.monotonic() - self._pruned_at < PRUNE_INTERVAL:
            return
        async with self._database.write_transaction() as connection:
            await delete_before(connection, self._clock() - self._lifetime)
        self._pruned_at = time.monotonic()


def _row(login: Login, now: float) -> dict[str, object]:
    identity = login.phone.identity if login.phone else None
    return {
        "login_id": login.id,
        "app": login.app,
        "app_incarnation": login.incarnation or None,
        "state": login.state.value,
        "provider": identity and identity.provider,
        "openid": identity and _storable(identity.id),
        "subject": login.subject and _storable(login.subject),
        "ip": _storable(login.browser.ip),
        "user_agent": _storable(login.browser.user_agent),
        "began_at": login.began_at,
        "ended_at": login.expires_at if login.state is State.EXPIRED else now,
        "instance": login.instance,
        "phone_ip": _storable(login.phone_ip) or None,
        "reason": _storable(login.reason) or None,
        **dict.fromkeys(("kind", "actor", "target")),
    }


def _entry_row(row_id: str, entry: AuditEntry, instance: str) -> dict[str, object]:
    texts = {
        name: value and _storable(value)
        for name, value in (
            ("subject", entry.subject),
            ("actor", entry.actor),
            ("target", entry.target),
            ("reason", entry.reason),
        )
    }
    return {
        **dict.fromkeys(("provider", "openid", "phone_ip")),
        **texts,
        "login_id": row_id,
        "kind": None if entry.kind is AuditKind.LOGIN else entry.kind.value,
        "app": entry.app,
        "app_incarnation": entry.incarnation or None,
        "state": entry.state,
        "ip": _storable(entry.ip),
        "user_agent": _storable(entry.user_agent),
        "began_at": entry.at,
        "ended_at": entry.at,
        "instance": instance,
    }


def _storable(text: str) -> str:
    """Return `text` without characters that a database refuses. One refused row would stop its
    whole batch."""
    return text[:TEXT_MAX].replace("\0", "").encode(errors="replace").decode()


AUDIT_DROPPED = Counter("scanlogin_trail_dropped", "Finished logins missing in the audit log")
