"""Each backend of the state, empty, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broker.state import StateBackend, open_state
from tests.support.builders import STATES, Clock
from tests.support.servers.redis import Engines, PassTime
from tests.support.waiting import opened


@pytest.fixture(params=STATES)
def engine(request: pytest.FixtureRequest, engines: Engines) -> str:
    engines.empty(request.param)
    return str(request.param)


@pytest.fixture
async def store(engine: str, engines: Engines, clock: Clock) -> AsyncIterator[StateBackend]:
    store = open_state(engines.url(engine), clock)
    await opened(store)
    yield store
    await store.close()


@pytest.fixture
async def clients(
    store: StateBackend, engine: str, engines: Engines, clock: Clock
) -> AsyncIterator[list[StateBackend]]:
    """Three instances with one state."""
    others = [] if engine == "memory" else [open_state(engines.url(engine), clock) for _ in "ab"]
    for other in others:
        await opened(other)
    yield [store, *others]
    for other in others:
        await other.close()


@pytest.fixture
def pass_time(engine: str, engines: Engines, clock: Clock) -> PassTime:
    """Advance the time of the broker and of the servers."""

    def pass_seconds(seconds: float) -> None:
        clock.time += seconds
        engines.pass_time(engine, seconds)

    return pass_seconds
