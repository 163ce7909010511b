"""Records of files, and the quotas of their owners."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.files.errors import QuotaExceeded
from broker.files.model import ExpiredFile, Owner, Reservation, StoredFile
from broker.records import tables as t
from broker.records.database import Database

RESERVED = ""
"""The storage key of a reservation."""


class SqlFileRecords:
    """Implements `FileRecords`, `FileQuota` and `FileCleanup`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(self, reservation: Reservation, *, quota: int, now: float) -> None:
        owner = reservation.owner
        async with self._database.write_transaction() as connection:
            await self._lock(connection, owner)
            used = await connection.scalar(
                select(func.coalesce(func.sum(t.files.c.size), 0)).where(
                    _belongs_to(owner.app, owner.person), t.files.c.expires_at > now
                )
            )
            if int(used or 0) + reservation.size > quota:
                raise QuotaExceeded
            await connection.execute(insert(t.files).values(_reservation_row(reservation, now)))

    async def add(self, file: StoredFile) -> None:
        async with self._database.write_transaction() as connection:
            await connection.execute(delete(t.files).filter_by(id=file.id))
            await connection.execute(insert(t.files).values(_row(file)))

    async def get(self, file_id: str, *, now: float) -> StoredFile | None:
        query = select(t.files).where(t.files.c.id == file_id, _is_kept(now))
        async with self._database.read_connection() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else _file(row)

    async def remove(self, file_id: str) -> None:
        async with self._database.write_transaction() as connection:
            await connection.execute(delete(t.files).filter_by(id=file_id))

    async def find(
        self, app: str, person: str | None, *, after: str, limit: int, now: float
    ) -> Sequence[StoredFile]:
        owned = t.files.c.app == app if person is None else _belongs_to(app, person)
        query = select(t.files).where(owned, t.files.c.id > after, _is_kept(now))
        async with self._database.read_connection() as connection:
            rows = await connection.execute(query.order_by(t.files.c.id).limit(limit))
            return [_file(row) for row in rows]

    async def expired(self, *, now: float, limit: int) -> Sequence[ExpiredFile]:
        columns = select(t.files.c.id, t.files.c.storage_key)
        query = columns.where(t.files.c.expires_at <= now).limit(limit)
        async with self._database.read_connection() as connection:
            rows = await connection.execute(query)
            return [ExpiredFile(row.id, row.storage_key) for row in rows]

    async def unknown_keys(self, keys: Collection[str]) -> Collection[str]:
        query = select(t.files.c.storage_key).where(t.files.c.storage_key.in_(keys))
        async with self._database.read_connection() as connection:
            return {*keys} - {*(await connection.scalars(query))}

    async def _lock(self, connection: AsyncConnection, owner: Owner) -> None:
        """Let the reservations of one owner take turns. SQLite has one writer at a time."""
        if self._database.dialect == "postgresql":
            lock = func.pg_advisory_xact_lock(func.hashtext("files"), func.hashtext(owner.person))
            await connection.execute(select(lock))


def _belongs_to(app: str, person: str) -> ColumnElement[bool]:
    return and_(t.files.c.app == app, t.files.c.person == person)


def _is_kept(now: float) -> ColumnElement[bool]:
    return and_(t.files.c.storage_key != RESERVED, t.files.c.expires_at > now)


def _reservation_row(reservation: Reservation, now: float) -> dict[str, object]:
    owner = reservation.owner
    empty = dict.fromkeys(("media_type", "sha256", "purpose", "name"), "")
    return {
        "id": reservation.file_id,
        **owner._asdict(),
        "storage_key": RESERVED,
        "size": reservation.size,
        **empty,
        "created_at": now,
        "expires_at": reservation.expires_at,
    }


def _row(file: StoredFile) -> dict[str, object]:
    return {
        "id": file.id,
        **file.owner._asdict(),
        "storage_key": file.key,
        "size": file.size,
        "media_type": file.media_type,
        "sha256": file.sha256,
        "purpose": file.purpose,
        "name": file.name,
        "created_at": file.created_at,
        "expires_at": file.expires_at,
    }


def _file(row: Row[tuple[object, ...]]) -> StoredFile:
    return StoredFile(
        id=row.id,
        owner=Owner(row.app, row.person, row.openid, row.subject),
        key=row.storage_key,
        size=row.size,
        media_type=row.media_type,
        sha256=row.sha256,
        purpose=row.purpose,
        name=row.name,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
