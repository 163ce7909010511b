"""Memory of an idle tunnel."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from bench.benchmarks import Benchmark, Figures, Runs, Setup
from bench.benchmarks.compare import compare_setups
from bench.benchmarks.memory import KB, SETTLE_DELAY
from bench.benchmarks.tunnel import BROKER, DATA, NODE
from bench.fleet import Fleet
from bench.load import LOST, close_all, gather_limited
from bench.targets.tunnels import TunnelTarget
from bench.tunnels import serving_backend

TUNNELS = 10_000
BAR = 0.4
PER_TUNNEL = "KB per tunnel"


class TunnelMemory(Benchmark):
    question = (
        f"Memory of an idle tunnel. {TUNNELS} tunnels are opened at one fresh instance, which "
        "has passed one message before. The backend accepts each. The figure is the growth of "
        f"the resident set after {SETTLE_DELAY:.0f} s, divided by the number of tunnels. Both "
        "targets keep the records in Redis. The kernel's memory for sockets is not included. "
        f"Bar: {BAR} of Node."
    )
    setups: Sequence[Setup] = [BROKER, NODE]
    warms_up = False

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        port = cast("TunnelTarget", fleet.target).callback_port
        async with serving_backend(fleet.urls[0], port) as backend:
            first = await backend.open()
            await first.echo(DATA)
            before = fleet.rss_bytes()
            clients = await gather_limited(backend.open, range(TUNNELS))
            await asyncio.sleep(SETTLE_DELAY)
            growth = (fleet.rss_bytes() - before) / KB
            lost = sum(not client.is_open for client in clients)
            close_all([first, *clients])
        return {PER_TUNNEL: growth / TUNNELS, "RSS before, MB": before / KB**2, LOST: lost}

    def verdict(self, runs: Runs) -> list[str]:
        if not {BROKER, NODE} <= runs.keys():
            return []
        return [compare_setups(runs, BROKER, NODE, PER_TUNNEL, bar=BAR)]


BENCHMARK = TunnelMemory()
