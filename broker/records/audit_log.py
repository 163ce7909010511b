"""How logins ended: who, for which app, from where, when.  No secret, no scene, no hash.

Nobody waits for it: what has ended is noted in memory and written in batches, a
second's worth in one go.  While the database is down notes wait, up to `QUEUE_MAX` of
them; what comes then, and what an instance that is killed had yet to write, is lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import islice

import structlog
from sqlalchemy import delete

from broker.infrastructure.observability.metrics import Counter
from broker.infrastructure.observability.outage import OutageLog
from broker.login.model import Login, State
from broker.records import tables as t
from broker.records.database import INSERT, Database
from broker.records.errors import RecordsUnavailable

log = structlog.get_logger()

QUEUE_MAX = 20_000
"""Notes that may wait: some 20 MB, and two minutes of 150 logins a second."""

BATCH_SIZE = 500

FLUSH_INTERVAL = 1.0
"""Seconds between two batches, so that a batch is worth its transaction."""

RETRY_DELAY = 5.0
"""Seconds until a database that was down is tried again."""

FLUSH_TIMEOUT = 2.0
"""Seconds that the last notes get when the process ends."""

PRUNE_INTERVAL = 3600.0

TEXT_MAX = 256


class SqlAuditLog:
    """lifetime: seconds for which an end is kept.  clock: Unix time in seconds."""

    def __init__(self, database: Database, *, lifetime: int, clock: Callable[[], float]) -> None:
        self._database = database
        self._lifetime = lifetime
        self._clock = clock
        self._notes: dict[str, dict[str, object]] = {}  # by login, oldest first
        self._some = asyncio.Event()
        self._pruned_at = -PRUNE_INTERVAL
        self._outage = OutageLog("the trail cannot be written", "the trail is written again")

    def record(self, login: Login, *, now: float) -> None:
        if login.id in self._notes:
            return  # a client that keeps asking about it takes no room of others
        if len(self._notes) >= QUEUE_MAX:
            AUDIT_DROPPED.inc()
            return
        self._notes[login.id] = _row(login, now)
        self._some.set()

    async def write_forever(self) -> None:
        """Write what is noted, until cancelled; an outage is logged, and its end."""
        while True:
            await self._some.wait()
            await asyncio.sleep(RETRY_DELAY if self._outage.failures else FLUSH_INTERVAL)
            try:
                await self._write()
                await self._prune()
                self._outage.recovered()
            except RecordsUnavailable as error:
                self._outage.failed(error.reason)

    async def flush(self) -> None:
        """Write the last notes, if that can be done soon."""
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await self._write()
        except (RecordsUnavailable, TimeoutError):
            log.warning("ended logins are not in the trail", count=len(self._notes))
            AUDIT_DROPPED.inc(len(self._notes))

    async def _write(self) -> None:
        while self._notes:
            batch = dict(islice(self._notes.items(), BATCH_SIZE))
            insert = INSERT[self._database.dialect](t.ended_logins)
            async with self._database.write_transaction() as connection:
                await connection.execute(insert.on_conflict_do_nothing(), [*batch.values()])
            for login_id in batch:
                self._notes.pop(login_id, None)
        self._some.clear()

    async def _prune(self) -> None:
        """Forget what is too old; once an hour is often enough."""
        if time.monotonic() - self._pruned_at < PRUNE_INTERVAL:
            return
        too_old = t.ended_logins.c.ended_at < self._clock() - self._lifetime
        async with self._database.write_transaction() as connection:
            await connection.execute(delete(t.ended_logins).where(too_old))
        self._pruned_at = time.monotonic()


def _row(login: Login, now: float) -> dict[str, object]:
    identity = login.phone.identity if login.phone else None
    return {
        "login_id": login.id,
        "app": login.app,
        "app_incarnation": login.incarnation or None,
        "state": login.state.value,
        "provider": identity and identity.provider,
        "openid": identity and _plain(identity.id),
        "subject": login.subject and _plain(login.subject),
        "ip": _plain(login.browser.ip),
        "user_agent": _plain(login.browser.user_agent),
        "began_at": login.began_at,
        "ended_at": login.expires_at if login.state is State.EXPIRED else now,
        "instance": login.instance,
    }


def _plain(text: str) -> str:
    """As any database takes it, or one odd name would keep its whole batch out."""
    return text[:TEXT_MAX].replace("\0", "").encode(errors="replace").decode()


AUDIT_DROPPED = Counter("scanlogin_trail_dropped", "Ended logins that no trail could be kept of")
