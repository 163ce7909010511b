"""CPU of a complete login."""

from __future__ import annotations

from collections.abc import Sequence

from bench.benchmarks import Benchmark, Figures, Runs, Setup
from bench.benchmarks.compare import ALL_TARGETS, BUN, compare_with_peers, generator_limit, setups
from bench.fleet import Fleet, Meter
from bench.load import LOST, LoadGenerator, run_concurrently

CONCURRENCY = 16
BAR = 1.15
SERVER_CPU = "servers' CPU, ms per login"
GENERATOR_CPU = "load generator, ms per login"


class Login(Benchmark):
    question = (
        "CPU of a complete login: connect, begin, scan, confirm at the other instance, redeem, "
        f"disconnect. {CONCURRENCY} logins are in progress at a time. All targets write the same "
        "changes to the same Redis and sign with ES256. Codes are drawn in advance, as in a pool; "
        f"only broker-draws draws a code for each login. Bar: {BAR} of bun."
    )
    setups: Sequence[Setup] = setups(2, targets=(*ALL_TARGETS, "broker-draws"))
    seconds = 10.0

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        generator = LoadGenerator(fleet)
        meter = Meter(fleet)
        result = await run_concurrently(generator.log_in, concurrency=CONCURRENCY, seconds=seconds)
        cpu = meter.read()
        generator.close()
        done = len(result.latencies)
        return {
            SERVER_CPU: cpu.servers / done,
            "Redis, ms per login": cpu.redis / done,
            GENERATOR_CPU: cpu.generator / done,
            "logins per second": done / seconds,
            LOST: result.lost.total(),
        }

    def verdict(self, runs: Runs) -> list[str]:
        return [
            *compare_with_peers(runs, SERVER_CPU, bars={BUN: BAR}),
            generator_limit(runs, GENERATOR_CPU, "logins"),
        ]


BENCHMARK = Login()
