"""CPU of a message through a tunnel to the backend and back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from bench.benchmarks import Benchmark, Figures, Runs, Setup
from bench.benchmarks.compare import compare_setups
from bench.fleet import Fleet, Meter
from bench.load import LOST, close_all, percentile, run_concurrently
from bench.targets.tunnels import TunnelTarget
from bench.tunnels import serving_backend

TUNNELS = 16
THINK_TIME = 0.02
BAR = 1.0
DATA = {"text": "x" * 100}
BROKER, NODE = Setup("broker-tunnel", 1), Setup("node-tunnel", 1)
SERVER_CPU = "servers' CPU, µs per round trip"


class TunnelRoundTrip(Benchmark):
    question = (
        "CPU of a message from a client to its backend and of the backend's push back to the "
        f"client, at one instance with {TUNNELS} tunnels. A client waits {1000 * THINK_TIME:.0f} "
        "ms before its next message. The message has a number from the state and a signed "
        "callback; the push is stored before it is answered. The peer is a service on Node with "
        "ws 8 and a keep-alive http.Agent. It runs the broker's own Redis scripts. The backend "
        f"is a part of the load generator. Bar: {BAR:g} of Node."
    )
    setups: Sequence[Setup] = [BROKER, NODE]
    seconds = 20.0
    warms_up = False

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        port = cast("TunnelTarget", fleet.target).callback_port
        async with serving_backend(fleet.urls[0], port) as backend:
            clients = [await backend.open() for _ in range(TUNNELS)]
            free = [*clients]

            async def echo(number: int) -> float:
                client = free.pop()
                latency = await client.echo(DATA)
                await asyncio.sleep(THINK_TIME)
                free.append(client)
                return latency

            warm_up = fleet.target.warm_up.seconds
            await run_concurrently(echo, concurrency=TUNNELS, seconds=warm_up)
            meter = Meter(fleet)
            result = await run_concurrently(echo, concurrency=TUNNELS, seconds=seconds)
            cpu, elapsed = meter.read(), meter.seconds
            close_all(clients)
        count = len(result.latencies)
        return {
            SERVER_CPU: 1000 * cpu.servers / count,
            "Redis, µs per round trip": 1000 * cpu.redis / count,
            "load generator, µs per round trip": 1000 * cpu.generator / count,
            "round trips per second": count / elapsed,
            "p50, ms": 1000 * percentile(result.latencies, 0.5),
            "p99, ms": 1000 * percentile(result.latencies, 0.99),
            LOST: result.lost.total(),
        }

    def verdict(self, runs: Runs) -> list[str]:
        if not {BROKER, NODE} <= runs.keys():
            return []
        return [compare_setups(runs, BROKER, NODE, SERVER_CPU, bar=BAR)]


BENCHMARK = TunnelRoundTrip()
