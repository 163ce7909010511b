"""Codes drawn ahead of time: which numbers an app has, and how far each one is.

    ──reserve──▶ RESERVED ──finish──▶ READY ──retire──▶ RETIRED ──reserve──▶ RESERVED …

A row comes before its code is drawn, and is ready once its picture is kept.  Whoever
reserves a number that somebody else began and left goes on with the same scene.  A
number whose code has retired is drawn anew, one drawing later and with another scene.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    Select,
    Update,
    and_,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.apps.model import app_key
from broker.pool.model import SCENE_BYTES, CodeCounts, CodeKey, CodeRecord, CodeReservation
from broker.records import tables as t
from broker.records.database import INSERT, Database

BATCH_SIZE = 1000
"""Codes that are read or written in one go."""

codes = t.codes.c

IS_READY = and_(codes.drawn_at.is_not(None), codes.retired_at.is_(None))

IS_RESERVED = and_(codes.drawn_at.is_(None), codes.retired_at.is_(None))

IS_LEFTOVER = and_(codes.retired_at.is_not(None), codes.picture.is_not(None))


class SqlCodeStore:
    """Codes by their app's key (`AppOption.key`).  clock: Unix time in seconds.

    Every method raises RecordsUnavailable, and then nothing has changed.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def missing(self, app: str, count: int) -> list[int]:
        """The numbers below `count` that have no ready code, lowest first."""
        ready = select(codes.number).where(codes.app == app, codes.number < count, IS_READY)
        async with self._database.read_connection() as connection:
            there = set(await connection.scalars(ready))
        return [number for number in range(count) if number not in there]

    async def reserve(self, app: str, number: int, *, seconds: float) -> CodeReservation | None:
        """Have `number` to oneself for `seconds`, to draw its code.

        None where it has one, or where somebody else has the number.
        """
        now = self._clock()
        async with self._database.write_transaction() as connection:
            newest = await _newest(connection, app, number)
            if newest is None or newest["retired_at"] is not None:
                drawing = 0 if newest is None else newest["drawing"] + 1
                return await self._begin(connection, app, number, drawing, now + seconds)
            if newest["drawn_at"] is not None or newest["reserved_until"] > now:
                return None
            return await _take_over(connection, _reserved(newest), now + seconds)

    async def finish(self, reservation: CodeReservation, picture: str) -> CodeRecord | None:
        """Its picture is kept under the key `picture`, and so the code is ready.

        None where somebody who took the number over has finished it before.
        """
        done = update(t.codes).where(_is(reservation), IS_RESERVED).returning(t.codes)
        values = {"picture": picture, "drawn_at": self._clock()}
        async with self._database.write_transaction() as connection:
            row = (await connection.execute(done.values(values))).mappings().one_or_none()
        return None if row is None else _code(row)

    async def release_reservation(self, reservation: CodeReservation) -> None:
        """Let others have the number at once."""
        mine = and_(_is(reservation), IS_RESERVED, codes.reserved_until == reservation.until)
        async with self._database.write_transaction() as connection:
            await connection.execute(update(t.codes).where(mine).values(reserved_until=0))

    async def count(self, app: str) -> int:
        """How many codes are ready."""
        ready = select(func.count()).where(codes.app == app, IS_READY)
        async with self._database.read_connection() as connection:
            return await connection.scalar(ready) or 0

    async def ready(self, app: str, *, since: float = 0.0) -> AsyncIterator[Sequence[CodeRecord]]:
        """All ready codes by number, some at a time; those alone that were drawn `since` then."""
        last = -1
        chosen = _some().where(codes.app == app, codes.drawn_at >= since, IS_READY)
        while found := await self._read(chosen.where(codes.number > last)):
            yield found
            last = found[-1].number

    async def retired(self, app: str, *, since: float = 0.0) -> AsyncIterator[Mapping[int, int]]:
        """The numbers of codes that have retired `since` then, and which drawing was the last to;
        by number, some at a time."""
        last = -1
        chosen = select(codes.number, func.max(codes.drawing)).group_by(codes.number)
        chosen = chosen.where(codes.app == app, codes.retired_at >= since)
        some = chosen.order_by(codes.number).limit(BATCH_SIZE)
        while found := await self._drawings(some.where(codes.number > last)):
            yield found
            last = max(found)

    async def drawn_before(self, app: str, *, before: float, limit: int) -> Sequence[CodeRecord]:
        """Ready codes that were drawn before then, the oldest first."""
        old = select(t.codes).where(codes.app == app, codes.drawn_at < before, IS_READY)
        return await self._read(old.order_by(codes.drawn_at).limit(limit))

    async def retire(self, chosen: Sequence[CodeRecord | CodeKey]) -> None:
        """Let their numbers be drawn anew; their pictures are left over, and still there."""
        await self._write(
            update(t.codes).where(_is_given(), IS_READY).values(retired_at=self._clock()), chosen
        )

    async def retired_with_picture(
        self, app: str, *, before: float = math.inf
    ) -> Sequence[CodeRecord]:
        """Codes that have retired before then and whose pictures are still there; some of them
        where there are many."""
        return await self._read(
            _some().where(codes.app == app, codes.retired_at < before, IS_LEFTOVER)
        )

    async def forget_pictures(self, chosen: Sequence[CodeRecord]) -> None:
        """Their pictures are no longer there."""
        await self._write(update(t.codes).where(_is_given()).values(picture=None), chosen)

    async def counts(self) -> list[CodeCounts]:
        """How many codes of each kind every app has that ever had one."""
        kinds = (IS_READY, IS_RESERVED, codes.retired_at.is_not(None), IS_LEFTOVER)
        numbers = [func.count(case((kind, 1))) for kind in kinds]
        oldest = func.min(case((IS_READY, codes.drawn_at)))
        counted = select(codes.app, *numbers, oldest).group_by(codes.app).order_by(codes.app)
        async with self._database.read_connection() as connection:
            return [CodeCounts(*row) for row in await connection.execute(counted)]

    async def removed_apps(self, settings_apps: Collection[str]) -> Sequence[str]:
        """Keys of removed apps that have codes."""
        async with self._database.read_connection() as connection:
            # In this order: an app is recorded before its codes are.
            keys = set(await connection.scalars(select(codes.app).distinct()))
            known = await connection.execute(select(t.apps.c.id, t.apps.c.incarnation))
            return sorted(
                keys
                - {app_key(app_id, incarnation or "") for app_id, incarnation in known}
                - set(settings_apps)
            )

    async def retire_all(self, app: str) -> None:
        """Retire every ready code of an app."""
        retired = update(t.codes).where(codes.app == app, IS_READY)
        async with self._database.write_transaction() as connection:
            await connection.execute(retired.values(retired_at=self._clock()))

    async def has_pictures(self, app: str) -> bool:
        """Whether an app has a stored or reserved picture."""
        wanted = or_(codes.picture.is_not(None), codes.reserved_until > self._clock())
        async with self._database.read_connection() as connection:
            found = select(codes.number).where(codes.app == app, wanted).limit(1)
            return await connection.scalar(found) is not None

    async def forget(self, app: str) -> None:
        """Delete all rows of a removed app that have no picture."""
        over = and_(codes.picture.is_(None), codes.reserved_until <= self._clock())
        async with self._database.write_transaction() as connection:
            await connection.execute(delete(t.codes).where(codes.app == app, over))

    async def _begin(
        self, connection: AsyncConnection, app: str, number: int, drawing: int, until: float
    ) -> CodeReservation | None:
        reserved = CodeReservation(
            app=app,
            number=number,
            drawing=drawing,
            scene=secrets.token_urlsafe(SCENE_BYTES),
            until=until,
        )
        values = {**_place(reserved), "scene": reserved.scene, "reserved_until": until}
        insert = INSERT[self._database.dialect](t.codes).values(values).on_conflict_do_nothing()
        first = await connection.scalar(insert.returning(codes.number))
        return None if first is None else reserved

    async def _read(self, some: Select[tuple[object, ...]]) -> list[CodeRecord]:
        async with self._database.read_connection() as connection:
            rows = await connection.execute(some)
            return [_code(row) for row in rows.mappings()]

    async def _drawings(self, some: Select[int, int]) -> Mapping[int, int]:
        async with self._database.read_connection() as connection:
            return {number: drawing for number, drawing in await connection.execute(some)}

    async def _write(self, change: Update, chosen: Sequence[CodeRecord | CodeKey]) -> None:
        for first in range(0, len(chosen), BATCH_SIZE):
            given = [
                {f"its_{name}": value for name, value in _place(code).items()}
                for code in chosen[first : first + BATCH_SIZE]
            ]
            async with self._database.write_transaction() as connection:
                await connection.execute(change, given)


def _some() -> Select[tuple[object, ...]]:
    return select(t.codes).order_by(codes.number).limit(BATCH_SIZE)


async def _newest(connection: AsyncConnection, app: str, number: int) -> RowMapping | None:
    rows = select(t.codes).filter_by(app=app, number=number)
    newest = await connection.execute(rows.order_by(codes.drawing.desc()).limit(1))
    return newest.mappings().one_or_none()


async def _take_over(
    connection: AsyncConnection, left: CodeReservation, until: float
) -> CodeReservation | None:
    """Go on where somebody else is gone; None where a third was faster."""
    unchanged = and_(_is(left), IS_RESERVED, codes.reserved_until == left.until)
    taken = update(t.codes).where(unchanged).values(reserved_until=until).returning(t.codes)
    row = (await connection.execute(taken)).mappings().one_or_none()
    return None if row is None else _reserved(row)


def _place(one: CodeReservation | CodeRecord | CodeKey) -> dict[str, object]:
    """The columns by which its row is found."""
    return {"app": one.app, "number": one.number, "drawing": one.drawing}


def _is(one: CodeReservation) -> ColumnElement[bool]:
    return and_(*(codes[name] == value for name, value in _place(one).items()))


def _is_given() -> ColumnElement[bool]:
    """The row of each code that a statement is given."""
    return and_(*(codes[name] == bindparam(f"its_{name}") for name in ("app", "number", "drawing")))


def _reserved(row: RowMapping) -> CodeReservation:
    return CodeReservation(
        app=row["app"],
        number=row["number"],
        drawing=row["drawing"],
        scene=row["scene"],
        until=row["reserved_until"],
    )


def _code(row: RowMapping) -> CodeRecord:
    return CodeRecord(
        app=row["app"],
        number=row["number"],
        drawing=row["drawing"],
        scene=row["scene"],
        picture=row["picture"],
        drawn_at=row["drawn_at"],
    )
