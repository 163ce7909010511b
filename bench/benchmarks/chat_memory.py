"""Memory of a connection that has joined a chat room."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bench.benchmarks import Benchmark, Figures, Runs, Setup
from bench.benchmarks.chat import BROKER, NODE
from bench.benchmarks.compare import compare_setups
from bench.benchmarks.memory import KB, SETTLE_DELAY
from bench.chat import ChatRoom, fill
from bench.fleet import Fleet
from bench.load import LOST

MEMBERS, ROOMS = 10_000, 10
PER_MEMBER = "KB per member"


class ChatMemory(Benchmark):
    question = (
        f"Memory of a connection that has joined a chat room. {MEMBERS} people connect to one "
        f"fresh instance, and each joins one of {ROOMS} rooms. One message was sent before. The "
        f"figure is the growth of the resident set after {SETTLE_DELAY:.0f} s, divided by the "
        "number of people. The kernel's memory for sockets is not included. No bar."
    )
    setups: Sequence[Setup] = [Setup(BROKER, 1), Setup(NODE, 1)]
    warms_up = False

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        first = ChatRoom("first")
        await fill([first], fleet.urls, 1)
        await first.say(0)
        before = fleet.rss_bytes()
        rooms = [ChatRoom(f"room-{number}") for number in range(ROOMS)]
        await fill(rooms, fleet.urls, MEMBERS)
        await asyncio.sleep(SETTLE_DELAY)
        growth = (fleet.rss_bytes() - before) / KB
        lost = sum(not member.is_open for room in rooms for member in room.members)
        for room in (first, *rooms):
            room.close()
        return {PER_MEMBER: growth / MEMBERS, "RSS before, MB": before / KB**2, LOST: lost}

    def verdict(self, runs: Runs) -> list[str]:
        broker, node = self.setups
        if not {broker, node} <= runs.keys():
            return []
        return [compare_setups(runs, broker, node, PER_MEMBER)]


BENCHMARK = ChatMemory()
