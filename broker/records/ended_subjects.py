"""Subjects of users who were blocked or removed, numbered in the order of the commits."""

from __future__ import annotations

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.records import tables as t
from broker.records.change_numbers import ChangeNumbers
from broker.records.database import Database
from broker.users.ports import EndedSubjects

ENDED_SUBJECT_TTL = 86_400.0
"""Seconds for which an ended subject is kept. If every instance was stopped for longer, the block
takes effect when the user's session is used: the directory refuses the user then."""


class SqlEndedSubjectLog:
    """Reads the ended subjects. Each instance reads all of them, with its own position."""

    def __init__(self, database: Database, changes: ChangeNumbers) -> None:
        self._database = database
        self._changes = changes

    async def after(self, number: int) -> EndedSubjects:
        """Return the subjects after `number`. Raises RecordsUnavailable."""
        ended, users = t.ended_subjects.c, t.users.c
        query = (
            select(ended.subject)
            .outerjoin(t.users, users.id == ended.subject)
            .where(ended.number > number, or_(users.id.is_(None), users.blocked))
            .order_by(ended.number)
        )
        async with self._database.read_connection() as connection:
            # Read before the subjects, so that the next look finds those in between.
            latest = await _latest(connection)
            found = [] if latest == number else (await connection.scalars(query)).all()
        return EndedSubjects(latest, found)

    async def wait(self, number: int) -> None:
        """Wait until there may be subjects after `number`."""
        await self._changes.wait("users", number)


async def record_ended_subject(connection: AsyncConnection, subject: str, *, now: float) -> None:
    """Let every instance end the sessions of `subject` after this transaction."""
    # The row of `changes` stays locked until the commit, so the numbers are in commit order.
    number = t.changes.c.number
    await connection.execute(update(t.changes).filter_by(what="users").values(number=number + 1))
    row = {"number": await _latest(connection), "subject": subject, "ended_at": now}
    outdated = t.ended_subjects.c.ended_at < now - ENDED_SUBJECT_TTL
    await connection.execute(delete(t.ended_subjects).where(outdated))
    await connection.execute(insert(t.ended_subjects).values(row))


async def _latest(connection: AsyncConnection) -> int:
    latest = await connection.scalar(select(t.changes.c.number).filter_by(what="users"))
    return int(latest or 0)
