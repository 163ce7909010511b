"""Runs a state machine of Hypothesis that takes arguments, on stores in an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from broker.state import StateBackend
from tests.support.waiting import opened


def run_machine(make: Callable[[], RuleBasedStateMachine], *, examples: int, steps: int) -> None:
    """Run `examples` machines, each of at most `steps` steps."""
    run_state_machine_as_test(
        make,  # type: ignore[arg-type]  # any function may make the machine
        settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None),
    )


@contextmanager
def runner_of(*stores: StateBackend) -> Iterator[asyncio.Runner]:
    """Open the stores in an event loop, and close them at the end.

    A store that a failed test leaves open would make the next test fail.
    """

    async def close() -> None:
        for store in stores:
            await store.close()

    with asyncio.Runner() as runner:
        for store in stores:
            runner.run(opened(store))
        try:
            yield runner
        finally:
            runner.run(close())
