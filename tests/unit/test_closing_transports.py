"""Transports that wait for the peer's close."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest

from broker.infrastructure.transport.websocket.closing import CLOSE_TIMEOUT, ClosingTransports
from tests.support.loop_clock import LoopClock


@pytest.fixture
def transports() -> ClosingTransports:
    return ClosingTransports()


def a_transport() -> Mock:
    return Mock(spec=asyncio.Transport)


async def test_silent_peer_has_the_time_to_close(
    transports: ClosingTransports, still_clock: LoopClock
) -> None:
    early, late = a_transport(), a_transport()
    transports.add(early)
    await still_clock.move(0.9 * CLOSE_TIMEOUT)
    transports.add(late)

    await still_clock.move(0.9 * CLOSE_TIMEOUT)
    early.abort.assert_not_called()
    await still_clock.move(CLOSE_TIMEOUT)

    early.abort.assert_called_once_with()
    late.abort.assert_called_once_with()


async def test_closed_transport_is_not_aborted(
    transports: ClosingTransports, still_clock: LoopClock
) -> None:
    closed, silent = a_transport(), a_transport()
    for transport in (closed, silent):
        transports.add(transport)

    transports.discard(closed)
    for _ in range(2):
        await still_clock.move(CLOSE_TIMEOUT)

    closed.abort.assert_not_called()
    silent.abort.assert_called_once_with()
    assert len(transports) == 0


async def test_transport_is_aborted_after_an_idle_time(
    transports: ClosingTransports, still_clock: LoopClock
) -> None:
    transports.add(a_transport())
    for _ in range(5):
        await still_clock.move(CLOSE_TIMEOUT)
    later = a_transport()

    transports.add(later)
    for _ in range(2):
        await still_clock.move(CLOSE_TIMEOUT)

    later.abort.assert_called_once_with()


async def test_all_are_aborted_at_once_at_a_shutdown(transports: ClosingTransports) -> None:
    found = [a_transport() for _ in range(3)]
    for transport in found:
        transports.add(transport)

    transports.abort_all()

    for transport in found:
        transport.abort.assert_called_once_with()
