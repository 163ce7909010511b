"""Codes drawn in advance: the numbers of each app, and the state of each number's code.

    ──reserve──▶ RESERVED ──finish──▶ READY ──retire──▶ RETIRED ──reserve──▶ RESERVED …

The row of a code exists before the code is drawn. The code is ready once its picture is stored.
After an expired reservation, the next one continues with the same scene. After retirement, the
next reservation has another drawing number and another scene.
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
"""Codes in one statement."""

codes = t.codes.c

IS_READY = and_(codes.drawn_at.is_not(None), codes.retired_at.is_(None))

IS_RESERVED = and_(codes.drawn_at.is_(None), codes.retired_at.is_(None))

IS_RETIRED_WITH_PICTURE = and_(codes.retired_at.is_not(None), codes.picture.is_not(None))


class SqlCodeStore:
    """Codes by the key of their app (`App.key`).

    clock: Unix time in seconds.
    Every method raises RecordsUnavailable; nothing has changed then.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def missing(self, app: str, count: int) -> list[int]:
        """Return the numbers below `count` that have no ready code, lowest first."""
        ready = select(codes.number).where(codes.app == app, codes.number < count, IS_READY)
        async with self._database.read_connection() as connection:
            present = set(await connection.scalars(ready))
        return [number for number in range(count) if number not in present]

    async def reserve(self, app: str, number: int, *, seconds: float) -> CodeReservation | None:
        """Reserve `number` for `seconds`, to draw its code.

        Returns None if the number has a ready code or another reservation.
        """
        now = self._clock()
        async with self._database.write_transaction() as connection:
            newest = await _newest(connection, app, number)
            if newest is None or newest["retired_at"] is not None:
                drawing = 0 if newest is None else newest["drawing"] + 1
                return await self._insert(connection, app, number, drawing, now + seconds)
            if newest["drawn_at"] is not None or newest["reserved_until"] > now:
                return None
            return await _renew(connection, _reservation(newest), now + seconds)

    async def finish(self, reservation: CodeReservation, picture: str) -> CodeRecord | None:
        """Make the code ready, with the picture stored under the key `picture`.

        Returns None if a later reservation has finished it before.
        """
        finished = update(t.codes).where(_is(reservation), IS_RESERVED).returning(t.codes)
        values = {"picture": picture, "drawn_at": self._clock()}
        async with self._database.write_transaction() as connection:
            row = (await connection.execute(finished.values(values))).mappings().one_or_none()
        return None if row is None else _code(row)

    async def release_reservation(self, reservation: CodeReservation) -> None:
        """End the reservation, so that others can reserve the number at once."""
        unchanged = and_(_is(reservation), IS_RESERVED, codes.reserved_until == reservation.until)
        async with self._database.write_transaction() as connection:
            await connection.execute(update(t.codes).where(unchanged).values(reserved_until=0))

    async def count(self, app: str) -> int:
        """Return the number of ready codes."""
        ready = select(func.count()).where(codes.app == app, IS_READY)
        async with self._database.read_connection() as connection:
            return await connection.scalar(ready) or 0

    async def ready(self, app: str, *, since: float = 0.0) -> AsyncIterator[Sequence[CodeRecord]]:
        """Yield the ready codes in batches, by number. since: only those drawn from then on."""
        last = -1
        selection = _batch().where(codes.app == app, codes.drawn_at >= since, IS_READY)
        while batch := await self._read(selection.where(codes.number > last)):
            yield batch
            last = batch[-1].number

    async def retired(self, app: str, *, since: float = 0.0) -> AsyncIterator[Mapping[int, int]]:
        """Yield numbers with their latest retired drawing in batches, by number.

        since: only codes retired from then on.
        """
        last = -1
        selection = select(codes.number, func.max(codes.drawing)).group_by(codes.number)
        selection = selection.where(codes.app == app, codes.retired_at >= since)
        selection = selection.order_by(codes.number).limit(BATCH_SIZE)
        while batch := await self._drawings(selection.where(codes.number > last)):
            yield batch
            last = max(batch)

    async def drawn_before(self, app: str, *, before: float, limit: int) -> Sequence[CodeRecord]:
        """Return ready codes that were drawn before then, oldest first."""
        old = select(t.codes).where(codes.app == app, codes.drawn_at < before, IS_READY)
        return await self._read(old.order_by(codes.drawn_at).limit(limit))

    async def retire(self, chosen: Sequence[CodeRecord | CodeKey]) -> None:
        """Retire codes, so that their numbers can be drawn again. Their pictures stay stored."""
        retired = update(t.codes).where(_is_bound(), IS_READY).values(retired_at=self._clock())
        await self._write(retired, chosen)

    async def retired_with_picture(
        self, app: str, *, before: float = math.inf
    ) -> Sequence[CodeRecord]:
        """Return one batch of codes that were retired before then and still have a picture."""
        return await self._read(
            _batch().where(codes.app == app, codes.retired_at < before, IS_RETIRED_WITH_PICTURE)
        )

    async def forget_pictures(self, chosen: Sequence[CodeRecord]) -> None:
        """Record that the pictures of these codes are deleted."""
        await self._write(update(t.codes).where(_is_bound()).values(picture=None), chosen)

    async def counts(self) -> list[CodeCounts]:
        """Return the number of codes in each state, of each app that ever had a code."""
        states = (IS_READY, IS_RESERVED, codes.retired_at.is_not(None), IS_RETIRED_WITH_PICTURE)
        numbers = [func.count(case((state, 1))) for state in states]
        oldest = func.min(case((IS_READY, codes.drawn_at)))
        counted = select(codes.app, *numbers, oldest).group_by(codes.app).order_by(codes.app)
        async with self._database.read_connection() as connection:
            return [CodeCounts(*row) for row in await connection.execute(counted)]

    async def removed_apps(self, settings_apps: Collection[str]) -> Sequence[str]:
        """Keys of removed apps that have codes."""
        async with self._database.read_connection() as connection:
            # In this order, because an app is recorded before its codes.
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
        """Return whether an app has a stored or reserved picture."""
        has_picture = or_(codes.picture.is_not(None), codes.reserved_until > self._clock())
        async with self._database.read_connection() as connection:
            first = select(codes.number).where(codes.app == app, has_picture).limit(1)
            return await connection.scalar(first) is not None

    async def forget(self, app: str) -> None:
        """Delete all rows of a removed app that have no picture."""
        has_no_picture = and_(codes.picture.is_(None), codes.reserved_until <= self._clock())
        async with self._database.write_transaction() as connection:
            await connection.execute(delete(t.codes).where(codes.app == app, has_no_picture))

    async def _insert(
        self, connection: AsyncConnection, app: str, number: int, drawing: int, until: float
    ) -> CodeReservation | None:
        reserved = CodeReservation(
            app=app,
            number=number,
            drawing=drawing,
            scene=secrets.token_urlsafe(SCENE_BYTES),
            until=until,
        )
        values = {**_key(reserved), "scene": reserved.scene, "reserved_until": until}
        insert = INSERT[self._database.dialect](t.codes).values(values).on_conflict_do_nothing()
        inserted = await connection.scalar(insert.returning(codes.number))
        return None if inserted is None else reserved

    async def _read(self, selection: Select[tuple[object, ...]]) -> list[CodeRecord]:
        async with self._database.read_connection() as connection:
            rows = await connection.execute(selection)
            return [_code(row) for row in rows.mappings()]

    async def _drawings(self, selection: Select[int, int]) -> Mapping[int, int]:
        async with self._database.read_connection() as connection:
            return {number: drawing for number, drawing in await connection.execute(selection)}

    async def _write(self, change: Update, chosen: Sequence[CodeRecord | CodeKey]) -> None:
        for first in range(0, len(chosen), BATCH_SIZE):
            keys = [
                {f"bound_{name}": value for name, value in _key(code).items()}
                for code in chosen[first : first + BATCH_SIZE]
            ]
            async with self._database.write_transaction() as connection:
                await connection.execute(change, keys)


def _batch() -> Select[tuple[object, ...]]:
    return select(t.codes).order_by(codes.number).limit(BATCH_SIZE)


async def _newest(connection: AsyncConnection, app: str, number: int) -> RowMapping | None:
    rows = select(t.codes).filter_by(app=app, number=number)
    newest = await connection.execute(rows.order_by(codes.drawing.desc()).limit(1))
    return newest.mappings().one_or_none()


async def _renew(
    connection: AsyncConnection, expired: CodeReservation, until: float
) -> CodeReservation | None:
    """Take over an expired reservation. Returns None if another instance was faster."""
    unchanged = and_(_is(expired), IS_RESERVED, codes.reserved_until == expired.until)
    renewed = update(t.codes).where(unchanged).values(reserved_until=until).returning(t.codes)
    row = (await connection.execute(renewed)).mappings().one_or_none()
    return None if row is None else _reservation(row)


def _key(code: CodeReservation | CodeRecord | CodeKey) -> dict[str, object]:
    """Return the columns of the primary key."""
    return {"app": code.app, "number": code.number, "drawing": code.drawing}


def _is(reserved: CodeReservation) -> ColumnElement[bool]:
    return and_(*(codes[name] == value for name, value in _key(reserved).items()))


def _is_bound() -> ColumnElement[bool]:
    """Match the row whose primary key is bound to the statement."""
    names = ("app", "number", "drawing")
    return and_(*(codes[name] == bindparam(f"bound_{name}") for name in names))


def _reservation(row: RowMapping) -> CodeReservation:
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
