"""What a lease of a code costs, by the size of the pool: `python -m bench.leases` prints it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import NamedTuple, TypeVar

import uvloop

from broker.state import BACK_AT_ONCE, Code, Leased, Leases, open_state
from tests.support.servers.redis import RedisServer, redis_program, running

T = TypeVar("T")

SIZES = (1_000, 10_000, 100_000)
CALLS = 500
AT_ONCE = 16
SOON = 2.0
"""Seconds in which CALLS leases are done."""

HEAD = (
    "codes",
    "lease, µs of Redis",
    "give back, µs of Redis",
    f"lease that brings {BACK_AT_ONCE} back, µs of Redis",
    "leases a second",
    "Redis' memory, bytes a code",
)


class Spent(NamedTuple):
    """redis_us: microseconds in the server for a call."""

    redis_us: float
    calls_a_second: float


def main() -> None:
    print(f"| {' | '.join(HEAD)} |\n|{'--:|' * len(HEAD)}")
    for size in SIZES:
        with running(redis_program()) as server:
            figures = uvloop.run(measure(server, size))
        print(f"| {' | '.join(f'{figure:,.0f}' for figure in (size, *figures))} |", flush=True)


async def measure(server: RedisServer, size: int) -> tuple[float, ...]:
    store = open_state(server.url)
    await store.open()
    leases, before = store.leases, memory_bytes(server)
    await leases.offer("shop", [a_code(number) for number in range(size)])
    memory = (memory_bytes(server) - before) / size
    until = store.clock() + 3_600

    taken, lease = await spent(server, [take(leases, until) for _ in range(CALLS)])
    backs = [leases.give_back("shop", one.code.number, one.generation, rest=0) for one in taken]
    _, give_back = await spent(server, backs)
    await asyncio.gather(*(take(leases, store.clock() + SOON) for _ in range(CALLS)))
    await asyncio.sleep(SOON)
    bringing = [take(leases, until) for _ in range(CALLS // BACK_AT_ONCE)]
    _, bring = await spent(server, bringing)
    await store.close()
    return lease.redis_us, give_back.redis_us, bring.redis_us, lease.calls_a_second, memory


async def take(leases: Leases, until: float) -> Leased:
    leased = await leases.lease("shop", until=until, rest=0)
    if leased is None:
        raise SystemExit("the pool is empty")
    return leased


async def spent(server: RedisServer, calls: Sequence[Awaitable[T]]) -> tuple[list[T], Spent]:
    """What the calls came to, `AT_ONCE` under way at a time, and what they cost."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def limited(call: Awaitable[T]) -> T:
        async with limit:
            return await call

    with server.client() as client:
        client.config_resetstat()
        began = time.perf_counter()
        done = await asyncio.gather(*map(limited, calls))
        seconds = time.perf_counter() - began
        scripts = client.info("commandstats")["cmdstat_evalsha"]
    return done, Spent(scripts["usec_per_call"], len(calls) / seconds)


def memory_bytes(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.info("memory")["used_memory"])


def a_code(number: int) -> Code:
    return Code(number=number, drawing=0, scene=f"{number:032}", picture=f"{number:032}.jpg")


if __name__ == "__main__":
    main()
