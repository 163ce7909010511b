"""CPU of a connect."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.benchmarks import Benchmark, Figures, Runs, Setup
from bench.benchmarks.compare import BUN, compare_with_peers, generator_limit, setups
from bench.fleet import Fleet, Meter
from bench.load import CONCURRENCY, LoadGenerator, close_all, gather_limited

CONNECTS = 5_000
BAR = 1.05
SERVER_CPU = "server's CPU, ms per connect"
GENERATOR_CPU = "load generator, ms per connect"


class Connect(Benchmark):
    question = (
        f"CPU of a connect. {CONNECTS} browsers connect to one instance, {CONCURRENCY} at a time: "
        "TCP, the WebSocket handshake, the Engine.IO handshake, CONNECT to the namespace. They "
        f"stay connected and begin no login. Bar: {BAR} of bun."
    )
    setups: Sequence[Setup] = setups(1)

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        generator = LoadGenerator(fleet)
        meter, start = Meter(fleet), time.perf_counter()
        browsers = await gather_limited(generator.connect, range(CONNECTS))
        cpu, took = meter.read(), time.perf_counter() - start
        close_all(browsers)
        return {
            SERVER_CPU: cpu.servers / CONNECTS,
            GENERATOR_CPU: cpu.generator / CONNECTS,
            "connects per second": CONNECTS / took,
        }

    def verdict(self, runs: Runs) -> list[str]:
        return [
            *compare_with_peers(runs, SERVER_CPU, bars={BUN: BAR}),
            generator_limit(runs, GENERATOR_CPU, "connects"),
        ]


BENCHMARK = Connect()
