"""The order of callbacks: random resumes, losses and failures of the backend."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings

from broker.state import open_state
from tests.support.builders import Clock
from tests.support.tunnel_order import STEPS, Step, assert_order, backend_after


@given(STEPS)
@settings(max_examples=50, deadline=None)
def test_backend_accepts_every_number_and_message_once(steps: list[Step]) -> None:
    backend = asyncio.run(backend_after(steps, open_state("memory://", Clock())))

    assert_order(backend)
