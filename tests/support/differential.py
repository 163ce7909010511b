"""Two states that must give the same results: memory, and one on servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from broker.state import StateBackend, open_state
from tests.support.builders import Clock
from tests.support.servers.redis import Engines
from tests.support.state_machines import runner_of

T = TypeVar("T")


class Differential(NamedTuple):
    """remote: two instances with the state of `engine`."""

    runner: asyncio.Runner
    clock: Clock
    engines: Engines
    engine: str
    remote: tuple[StateBackend, StateBackend]

    def run(self, act: Awaitable[T]) -> T:
        async def call() -> T:
            return await act

        return self.runner.run(call())

    def both(
        self, memory: StateBackend, instance: int, act: Callable[[StateBackend], Awaitable[Any]]
    ) -> tuple[Any, Any]:
        """Return the results of `act` in memory and at an instance."""
        return self.run(act(memory)), self.run(act(self.remote[instance]))

    def empty(self) -> StateBackend:
        """Delete all data, and return a new state in memory."""
        self.engines.empty(self.engine)
        return open_state("memory://", self.clock)

    def pass_time(self, seconds: float) -> None:
        self.clock.time += seconds
        self.engines.pass_time(self.engine, seconds)


@contextmanager
def differential(engines: Engines, engine: str) -> Iterator[Differential]:
    clock, url = Clock(), engines.url(engine)
    remote = (open_state(url, clock), open_state(url, clock))
    with runner_of(*remote) as runner:
        yield Differential(runner, clock, engines, engine, remote)
