"""Limits of features: failed attempts, logins, draining and reads of files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from broker.errors import BrokerError, InvalidRequest, RateLimited
from broker.files.errors import DownloadsBusy
from broker.files.limits import READ_TIMEOUT, READS_SHARE, ReadLimits
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.runtime.drain import DrainGate, InstanceDraining
from broker.login.errors import PolledTooFast, UnknownLogin
from broker.login.limits import LoginLimits
from tests.support.loop_clock import LoopClock


def fail(limiter: RateLimiter, key: str, error: BrokerError) -> type[BrokerError]:
    """Make a failed attempt and return the class of its error."""
    with pytest.raises(BrokerError) as raised, limiter.counting_failures(key):
        raise error
    return raised.type


def test_failed_attempt_over_the_limit_is_rate_limited() -> None:
    limiter = RateLimiter(1)

    seen = [fail(limiter, "192.0.2.1", UnknownLogin()) for _ in range(2)]

    assert seen == [UnknownLogin, RateLimited]


def test_other_error_is_not_a_failed_attempt() -> None:
    limiter = RateLimiter(1)

    seen = [fail(limiter, "192.0.2.1", InvalidRequest()) for _ in range(2)]

    assert seen == [InvalidRequest, InvalidRequest]


def test_success_over_the_limit_is_accepted() -> None:
    limiter = RateLimiter(1)
    for _ in range(2):
        fail(limiter, "192.0.2.1", UnknownLogin())

    with limiter.counting_failures("192.0.2.1"):
        pass


def test_addresses_of_one_ipv6_network_share_a_limit() -> None:
    limiter = RateLimiter(1)
    limiter.count("2001:db8::1")

    with pytest.raises(RateLimited):
        limiter.count("2001:db8::2")


def test_draining_instance_refuses_new_logins() -> None:
    drain = DrainGate()
    limits = LoginLimits(begins_per_minute=1, interval=2, drain=drain)

    drain.close()

    with pytest.raises(InstanceDraining):
        limits.count_begin("192.0.2.1")


def test_second_poll_within_the_interval_is_refused() -> None:
    limits = LoginLimits(begins_per_minute=1, interval=60, drain=DrainGate())
    limits.count_poll("login")

    with pytest.raises(PolledTooFast):
        limits.count_poll("login")


async def endless() -> AsyncGenerator[bytes]:
    while True:
        yield b"x"


async def test_client_that_receives_slowly_holds_no_turn() -> None:
    limits = ReadLimits()
    downloads = [limits.each("alice", endless()) for _ in range(READS_SHARE)]
    for download in downloads:
        await anext(download)

    async with limits.reading("alice"):
        pass


async def test_closed_download_closes_the_store() -> None:
    closed = asyncio.Event()

    async def chunks() -> AsyncGenerator[bytes]:
        try:
            yield b"x"
            yield b"y"
        finally:
            closed.set()

    download = ReadLimits().each("alice", chunks())
    await anext(download)
    await download.aclose()

    assert closed.is_set()


async def test_caller_without_a_turn_in_time_is_refused(still_clock: LoopClock) -> None:
    limits = ReadLimits()

    async def read() -> None:
        async with limits.reading("alice"):
            await asyncio.Event().wait()

    reads = [asyncio.create_task(read()) for _ in range(READS_SHARE + 1)]
    await asyncio.sleep(0)
    await still_clock.move(READ_TIMEOUT)

    try:
        with pytest.raises(DownloadsBusy):
            await reads[-1]
    finally:
        for one in reads:
            one.cancel()
        await asyncio.wait(reads)
