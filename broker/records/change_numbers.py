"""The numbers of changes, which show whether a table must be read again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.records import tables as t


class ChangeNumbers:
    """The numbers of changes as this process has read them last.

    One task reads them at an interval, in one query. The other parts wait for a change.
    """

    def __init__(self) -> None:
        self._numbers: Mapping[str, int] = {}
        self._change = asyncio.Event()

    async def read(self, connection: AsyncConnection) -> Mapping[str, int]:
        """Read and return the numbers by table."""
        rows = await connection.execute(select(t.changes.c.what, t.changes.c.number))
        numbers = {what: int(number) for what, number in rows}
        if numbers != self._numbers:
            self._numbers = numbers
            self._change.set()
            self._change = asyncio.Event()
        return numbers

    async def wait(self, what: str, number: int) -> None:
        """Wait until the number of a table differs from `number`.

        number: as the caller has read it. It may be later than the last one that was read here.
        """
        before = self._numbers.get(what, 0)
        # A number that decreases is a change too: a backup of the database was restored.
        while (now := self._numbers.get(what, 0)) <= number and now in (before, number):
            await self._change.wait()
