"""`fault`: people log in all the time, something breaks, and what became of everybody is judged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.chaos import table
from tests.chaos.ledger import Ledger, Row
from tests.chaos.load import Crowd, Fault, gathered
from tests.chaos.pulse import pulses
from tests.chaos.world import World, over
from tests.support.servers.redis import KEPT, RedisServer, redis_program, running

RATE = 5.0
"""People a second."""

WAITING = 10
"""Browsers that have a code when the fault strikes, and whose phones come out after it."""

BEFORE = 2.5
AFTER = 2.5
"""Seconds of ordinary life on both sides of the fault."""

ALL_IN_WITHIN = 15.0
"""Seconds that everybody has to finish; being late is judged by the ledger."""

STUCK = 1.0
"""Seconds that no broker's event loop may be stuck."""


ROWS = pytest.StashKey[list[Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--table", type=Path, help="a page whose table of faults is written anew")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash[ROWS]
    if not rows:
        return
    terminalreporter.write_sep("=", "faults")
    terminalreporter.write(table.HEAD + "".join(table.lines(rows).values()))
    page = config.getoption("table", None)  # not known where this folder was not asked for
    if page is not None:
        table.write(page, rows)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis that has everything on disk before it answers."""
    with running(redis_program(), *KEPT) as server:
        yield server


@pytest.fixture
async def world(redis: RedisServer, tmp_path: Path) -> AsyncIterator[World]:
    async with over(redis, tmp_path) as world:
        yield world


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Fault:
    """What happens inside ``async with fault(name, world)`` is the fault; at its end all is judged.

    Nothing confirmed may be lost (unless `loses`), no login gives two tokens, no
    event loop is stuck, and everybody else who came gets in at last.
    """

    @asynccontextmanager
    async def strike(
        name: str, world: World, *, rate: float = RATE, loses: bool = False
    ) -> AsyncIterator[Crowd]:
        ledger = Ledger()
        with pulses(world.instances) as asked:
            async with gathered(world, ledger) as crowd:
                async with living(crowd, ledger, rate):
                    yield crowd
                await crowd.finish(ALL_IN_WITHIN)
                await crowd.redeem_again()
                unfinished = len(crowd)
        row = ledger.row(name, max(pulse.slowest for pulse in asked))
        request.config.stash[ROWS].append(row)
        assert row.double == 0, ledger.double()
        assert row.slowest_live < STUCK
        assert loses or row.lost == 0, [ledger.entries[one] for one in ledger.lost()]
        assert unfinished <= row.lost, f"{unfinished} people did not get in: {ledger.refusals}"
        assert all(one.runs() for one in world.instances if one.serving)

    return strike


@asynccontextmanager
async def living(crowd: Crowd, ledger: Ledger, rate: float) -> AsyncIterator[None]:
    """People come and go before, during and after the ``async with`` block, the fault."""
    coming = asyncio.create_task(crowd.come(rate))
    crowd.sit_down(WAITING)
    try:
        await asyncio.sleep(BEFORE)
        ledger.fault_begins()
        yield
        ledger.fault_ends()
        crowd.stand_up()
        await asyncio.sleep(AFTER)
    finally:
        coming.cancel()
        await asyncio.wait([coming])
