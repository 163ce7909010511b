"""The order of callbacks over Redis: random resumes, losses and failures of the backend."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings

from broker.state import open_state
from tests.support.servers.redis import Engines
from tests.support.tunnel_instances import FlakyBackend
from tests.support.tunnel_order import STEPS, Step, assert_order, backend_after
from tests.support.waiting import opened


@given(steps=STEPS)
@settings(max_examples=8, deadline=None)
def test_backend_accepts_every_message_once_over_redis(engines: Engines, steps: list[Step]) -> None:
    async def run() -> FlakyBackend:
        store = open_state(engines.url("redis"))
        await opened(store)
        try:
            return await backend_after(steps, store)
        finally:
            await store.close()

    assert_order(asyncio.run(run()))
