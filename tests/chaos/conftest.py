"""The fixture `fault`: users log in during a fault, and the results of all logins are checked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import table
from tests.chaos.ledger import TOKEN_TIMEOUT, Ledger, Row
from tests.chaos.load import Fault, Load, open_users
from tests.chaos.probe import probing
from tests.chaos.world import World, brokers_with_links
from tests.support.servers.redis import KEPT, RedisServer, redis_program, running

RATE = 5.0
"""Users per second."""

WAITING_BROWSERS = 10
"""Browsers that have a code when the fault starts, and whose phones scan after it."""

LOGINS_BEFORE = 5
LOGINS_AFTER = 20
"""Users who log in before the fault, and after it."""

FINISH_TIMEOUT = 60.0
"""Seconds that all users have to finish. In a measured run, the ledger checks late tokens."""

BLOCKED_MAX = 1.0
"""Seconds that the event loop of a broker may be blocked at most."""


OpenLoad = Callable[[World, Ledger], AbstractAsyncContextManager[Load[Any]]]

ROWS = pytest.StashKey[list[Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--table", type=Path, help="a page whose table of faults is updated")


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
    page = config.getoption("table", None)  # missing if pytest runs without this folder
    if page is not None:
        table.write(page, rows)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis that writes to disk before it answers."""
    with running(redis_program(), *KEPT) as server:
        yield server


@pytest.fixture
async def world(redis: RedisServer, tmp_path: Path) -> AsyncIterator[World]:
    async with brokers_with_links(redis, tmp_path) as world:
        yield world


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> list[Row]:
    """The rows of the table."""
    return request.config.stash[ROWS]


@pytest.fixture
def is_measured(request: pytest.FixtureRequest) -> bool:
    """Whether durations are checked, as `make chaos` does. On a busy machine they mean nothing."""
    return request.config.getoption("--table", default=None) is not None


@pytest.fixture
def ledger(is_measured: bool) -> Ledger:
    return Ledger(TOKEN_TIMEOUT if is_measured else math.inf)


@pytest.fixture
def fault(rows: list[Row], ledger: Ledger, is_measured: bool) -> Fault:
    """A context manager `fault(name, world)`. Its block is the fault; its end checks all logins.

    No confirmed login may be lost (unless `loses`), no login returns two different tokens, and
    all other users log in. A measured run also checks that no token is late, and that no event
    loop is blocked (unless `stops`).
    open_load: opens the users.
    """

    @asynccontextmanager
    async def inject(
        name: str,
        world: World,
        *,
        rate: float = RATE,
        loses: bool = False,
        stops: bool = False,
        open_load: OpenLoad = open_users,
    ) -> AsyncIterator[Load[Any]]:
        with probing(world.instances) as probes:
            async with open_load(world, ledger) as users:
                async with users_during(users, ledger, rate):
                    yield users
                await users.finish(FINISH_TIMEOUT)
                await users.redeem_again()
                unfinished = len(users)
        row = ledger.row(name, max(probe.slowest for probe in probes))
        rows.append(row)
        assert row.double == 0, ledger.double()
        assert stops or row.slowest_live < BLOCKED_MAX or not is_measured
        assert loses or row.lost == 0, [ledger.entries[one] for one in ledger.lost()]
        assert unfinished <= row.lost, f"{unfinished} users did not log in: {ledger.refusals}"
        assert all(one.runs() for one in world.instances if one.serving)

    return inject


@asynccontextmanager
async def users_during(users: Load[Any], ledger: Ledger, rate: float) -> AsyncIterator[None]:
    """Users log in before, during and after the block, which is the fault.

    The block begins when `LOGINS_BEFORE` users are logged in. After it, `LOGINS_AFTER` more log in.
    """
    adding = asyncio.create_task(users.add_continuously(rate))
    users.add_waiting(WAITING_BROWSERS)
    try:
        await users.until_logged_in(LOGINS_BEFORE)
        ledger.fault_begins()
        yield
        ledger.fault_ends()
        users.release_waiting()
        await users.until_logged_in(LOGINS_AFTER)
    finally:
        adding.cancel()
        await asyncio.wait([adding])
