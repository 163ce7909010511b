"""Numbers, hash chain and export of the audit log.

Rows are written by several instances, and become visible in another order than they are written.
Numbering is serialized by a lock on the mark `last`, so that every reader sees the numbers
without gaps.

    mark       seq                                 hash
    last       of the last numbered row            of this row
    deleted    of the last row that was deleted    of this row: the anchor of the rest
    chained    of the first row of the chain       –
    pushed     of the last row that was pushed     –
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.audit.model import AuditKind, AuditQuery, ChainCheck, ExportedEntry
from broker.audit.rules import FIRST_PREVIOUS, next_hash
from broker.records import tables as t
from broker.records.database import Database

VERIFY_BATCH = 500

LAST, DELETED, CHAINED, PUSHED = "last", "deleted", "chained", "pushed"

EXPORTED_AS: Mapping[str, str] = {
    "seq": "seq",
    "kind": "kind",
    "login_id": "id",
    "ended_at": "at",
    "began_at": "began_at",
    "app": "app",
    "app_incarnation": "incarnation",
    "state": "state",
    "provider": "provider",
    "openid": "openid",
    "subject": "subject",
    "actor": "actor",
    "target": "target",
    "ip": "ip",
    "phone_ip": "phone_ip",
    "user_agent": "user_agent",
    "reason": "reason",
    "instance": "instance",
    "hash": "hash",
}
"""Fields of an exported entry, by column. The other columns change after the row is written."""


class Mark(NamedTuple):
    seq: int
    hash: str | None


class SqlAuditExport:
    """chains: whether new rows continue the hash chain."""

    def __init__(self, database: Database, *, chains: bool) -> None:
        self._database = database
        self._chains = chains

    async def number(self, limit: int) -> int:
        if not await self._has_new_rows():
            return 0  # without a write transaction
        async with self._database.write_transaction() as connection:
            last = await locked_mark(connection, LAST)
            found = await connection.execute(new_rows(limit))
            numbered = self._numbered(last, found.mappings().all())
            if numbered:
                await self._store(connection, last, numbered)
        return len(numbered)

    def _numbered(self, last: Mark, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the numbers and hashes of rows, by the names of the statement's parameters."""
        numbered: list[dict[str, Any]] = []
        previous = last.hash or FIRST_PREVIOUS
        for seq, row in enumerate(rows, last.seq + 1):
            if self._chains:
                previous = next_hash(previous, exported({**row, "seq": seq}))
            digest = previous if self._chains else None
            numbered.append({"row": row["login_id"], "number": seq, "digest": digest})
        return numbered

    async def _store(
        self, connection: AsyncConnection, last: Mark, numbered: list[dict[str, Any]]
    ) -> None:
        columns = t.ended_logins.c
        statement = update(t.ended_logins).where(columns.login_id == bindparam("row"))
        await connection.execute(
            statement.values(seq=bindparam("number"), hash=bindparam("digest")), numbered
        )
        end = numbered[-1]
        await _set_mark(connection, LAST, Mark(end["number"], end["digest"]))
        if self._chains and last.hash is None:
            await _set_mark(connection, CHAINED, Mark(numbered[0]["number"], None))

    async def _has_new_rows(self) -> bool:
        new = select(t.ended_logins.c.login_id).where(t.ended_logins.c.seq.is_(None)).limit(1)
        async with self._database.read_connection() as connection:
            return await connection.scalar(new) is not None

    async def page(self, after: int, limit: int) -> Sequence[ExportedEntry]:
        return await self._find([t.ended_logins.c.seq > after], limit)

    async def search(self, query: AuditQuery, limit: int) -> Sequence[ExportedEntry]:
        return await self._find(_conditions(query), limit, latest_first=True)

    async def _find(
        self, conditions: Sequence[ColumnElement[bool]], limit: int, *, latest_first: bool = False
    ) -> Sequence[ExportedEntry]:
        columns = t.ended_logins.c
        order = columns.seq.desc() if latest_first else columns.seq
        found = select(t.ended_logins).where(columns.seq.is_not(None), *conditions)
        async with self._database.read_connection() as connection:
            rows = await connection.execute(found.order_by(order).limit(limit))
            return [exported(row) for row in rows.mappings()]

    async def pushed(self) -> int:
        return (await self._marks())[PUSHED].seq

    async def mark_pushed(self, seq: int) -> None:
        columns = t.audit_marks.c
        later = columns.name == PUSHED, columns.seq < seq
        async with self._database.write_transaction() as connection:
            await connection.execute(update(t.audit_marks).where(*later).values(seq=seq))

    async def verify(self) -> ChainCheck:
        marks = await self._marks()
        if marks[LAST].hash is None:
            return ChainCheck(0)
        check = await self._verify(marks)
        if check.broken_at is not None and (await self._marks())[DELETED] != marks[DELETED]:
            return await self.verify()  # old rows were deleted meanwhile
        return check

    async def _verify(self, marks: Mapping[str, Mark]) -> ChainCheck:
        """Compare each row from the anchor to the last one that `marks` have."""
        last, anchor = marks[LAST], marks[DELETED]
        seq, previous = marks[CHAINED].seq - 1, FIRST_PREVIOUS
        if anchor.seq > seq:
            seq, previous = anchor.seq, anchor.hash or FIRST_PREVIOUS
        checked = 0
        while seq < last.seq:
            page = await self.page(seq, min(VERIFY_BATCH, last.seq - seq))
            if not page:
                return ChainCheck(checked, seq + 1, "the entry is missing")
            for entry in page:
                seq += 1
                if entry["seq"] != seq:
                    return ChainCheck(checked, seq, "the entry is missing")
                previous = next_hash(previous, entry)
                if entry.get("hash") != previous:
                    return ChainCheck(checked, seq, "the entry was changed")
                checked += 1
        if previous != last.hash:
            return ChainCheck(checked, seq, "the end of the chain was changed")
        return ChainCheck(checked)

    async def _marks(self) -> Mapping[str, Mark]:
        async with self._database.read_connection() as connection:
            rows = (await connection.execute(select(t.audit_marks))).mappings()
            return {row["name"]: Mark(row["seq"], row["hash"]) for row in rows}


def new_rows(limit: int) -> Select[Any]:
    """Select the oldest rows without a number. The index `ended_logins_new` has this order."""
    columns = t.ended_logins.c
    new = select(t.ended_logins).where(columns.seq.is_(None))
    return new.order_by(columns.ended_at, columns.login_id).limit(limit)


async def locked_mark(connection: AsyncConnection, name: str) -> Mark:
    """Return a mark. Other transactions that lock it wait until the end of this one."""
    columns = t.audit_marks.c
    found = select(columns.seq, columns.hash).where(columns.name == name).with_for_update()
    row = (await connection.execute(found)).one()
    return Mark(row.seq, row.hash)


async def delete_before(connection: AsyncConnection, ended_at: float) -> None:
    """Delete the rows from the first one on that ended before a time, and move the anchor.

    Rows are deleted in the order of their numbers, so that the chain of the others is complete.
    """
    columns = t.ended_logins.c
    last = await locked_mark(connection, LAST)
    kept = select(columns.seq).where(columns.seq.is_not(None), columns.ended_at >= ended_at)
    first_kept = await connection.scalar(kept.order_by(columns.seq).limit(1))
    end = last.seq if first_kept is None else first_kept - 1
    row = (
        await connection.execute(select(columns.seq, columns.hash).where(columns.seq == end))
    ).one_or_none()
    if row is not None:
        await _set_mark(connection, DELETED, Mark(row.seq, row.hash))
        await connection.execute(delete(t.ended_logins).where(columns.seq <= end))
    too_old = columns.seq.is_(None), columns.ended_at < ended_at
    await connection.execute(delete(t.ended_logins).where(*too_old))


async def _set_mark(connection: AsyncConnection, name: str, mark: Mark) -> None:
    statement = update(t.audit_marks).where(t.audit_marks.c.name == name)
    await connection.execute(statement.values(seq=mark.seq, hash=mark.hash))


def exported(row: Mapping[Any, Any]) -> ExportedEntry:
    fields = {name: row[column] for column, name in EXPORTED_AS.items()}
    fields["kind"] = fields["kind"] or AuditKind.LOGIN.value
    return {name: value for name, value in fields.items() if value is not None}


def _conditions(query: AuditQuery) -> list[ColumnElement[bool]]:
    columns = t.ended_logins.c
    conditions = [
        columns[name] == value
        for name, value in (("app", query.app), ("subject", query.subject), ("state", query.state))
        if value is not None
    ]
    if query.kind == AuditKind.LOGIN:
        conditions.append(columns.kind.is_(None))
    elif query.kind is not None:
        conditions.append(columns.kind == query.kind)
    if query.since is not None:
        conditions.append(columns.ended_at >= query.since)
    if query.before is not None:
        conditions.append(columns.seq < query.before)
    return conditions
