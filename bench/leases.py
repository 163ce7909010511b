"""Cost of a code lease by pool size. `python -m bench.leases` prints a table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import NamedTuple, TypeVar

import uvloop

from broker.pool.model import LeasedCode, OfferedCode
from broker.pool.ports import RESTORE_BATCH, CodeLeases
from broker.state import open_state
from tests.support.servers.redis import RedisServer, redis_program, running

T = TypeVar("T")

SIZES = (1_000, 10_000, 100_000)
CALLS = 500
CONCURRENCY = 16
SHORT_LEASE = 2.0
"""Seconds that are enough for CALLS leases."""

HEAD = (
    "codes",
    "lease, µs of Redis",
    "return, µs of Redis",
    f"lease that restores {RESTORE_BATCH} codes, µs of Redis",
    "leases per second",
    "Redis memory, bytes per code",
)


class CallCost(NamedTuple):
    """Cost of a call. redis_us: microseconds in Redis."""

    redis_us: float
    calls_per_second: float


def main() -> None:
    print(f"| {' | '.join(HEAD)} |\n|{'--:|' * len(HEAD)}")
    for size in SIZES:
        with running(redis_program()) as server:
            figures = uvloop.run(measure(server, size))
        print(f"| {' | '.join(f'{figure:,.0f}' for figure in (size, *figures))} |", flush=True)


async def measure(server: RedisServer, size: int) -> tuple[float, ...]:
    store = open_state(server.url)
    await store.open()
    leases, before = store.code_leases, memory_bytes(server)
    await leases.offer("shop", [build_code(number) for number in range(size)])
    memory = (memory_bytes(server) - before) / size
    until = store.clock() + 3_600

    leased, lease = await measure_calls(server, [take_lease(leases, until) for _ in range(CALLS)])
    returns = [
        leases.return_code("shop", one.code.number, one.generation, cooldown=0) for one in leased
    ]
    _, give_back = await measure_calls(server, returns)
    await asyncio.gather(*(take_lease(leases, store.clock() + SHORT_LEASE) for _ in range(CALLS)))
    await asyncio.sleep(SHORT_LEASE)
    restores = [take_lease(leases, until) for _ in range(CALLS // RESTORE_BATCH)]
    _, restore = await measure_calls(server, restores)
    await store.close()
    return lease.redis_us, give_back.redis_us, restore.redis_us, lease.calls_per_second, memory


async def take_lease(leases: CodeLeases, until: float) -> LeasedCode:
    leased = await leases.lease("shop", until=until, cooldown=0)
    if leased is None:
        raise SystemExit("the pool is empty")
    return leased


async def measure_calls(
    server: RedisServer, calls: Sequence[Awaitable[T]]
) -> tuple[list[T], CallCost]:
    """The results of the calls, `CONCURRENCY` at a time, and their cost."""
    limit = asyncio.Semaphore(CONCURRENCY)

    async def limited(call: Awaitable[T]) -> T:
        async with limit:
            return await call

    with server.client() as client:
        client.config_resetstat()
        start = time.perf_counter()
        done = await asyncio.gather(*map(limited, calls))
        seconds = time.perf_counter() - start
        scripts = client.info("commandstats")["cmdstat_evalsha"]
    return done, CallCost(scripts["usec_per_call"], len(calls) / seconds)


def memory_bytes(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.info("memory")["used_memory"])


def build_code(number: int) -> OfferedCode:
    return OfferedCode(number=number, drawing=0, scene=f"{number:032}", picture=f"{number:032}.jpg")


if __name__ == "__main__":
    main()
