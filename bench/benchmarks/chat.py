"""CPU of a chat message for each member that receives it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from bench.benchmarks import Benchmark, Figures, Runs, Setup
from bench.benchmarks.compare import compare_setups
from bench.chat import TEXT, ChatRoom, fill
from bench.fleet import Fleet, Meter, idle_cpu
from bench.load import LOST, percentile, run_at_rate

MEMBERS = 1_000
RATE = 10
"""Messages per second."""

JOINED_AT = 2
"""Instances that have members."""

IDLE_SECONDS = 5.0
BAR, GROWTH_BAR = 1.0, 1.10
FEWEST, MOST = 2, 8
BROKER, NODE = "broker-chat", "node-chat"
SERVER_CPU = "servers' CPU, µs per delivered message"
ALONE_CPU = "without idle CPU"


class Chat(Benchmark):
    question = (
        f"CPU of a chat message for each delivery. A room has {MEMBERS} members, who are "
        f"connected to {JOINED_AT} instances over WebSockets. They take turns to send {RATE} "
        f"messages per second of {len(TEXT)} bytes. A message is stored before it is sent. The "
        "peer is socket.io with @socket.io/redis-adapter on Node; it stores a message with the "
        "broker's own Redis script, has no presence, and recovers no lost messages. The figure "
        "is the CPU of all servers, including their idle CPU, divided by the messages that "
        "members have received. The time to delivery is from the sending of a message to its "
        f"arrival at each member. Bars: {BAR:g} of Node; {MOST} instances at most {GROWTH_BAR} "
        f"of {FEWEST}."
    )
    setups: Sequence[Setup] = [
        Setup(name, instances) for instances in (FEWEST, MOST) for name in (BROKER, NODE)
    ]
    seconds = 20.0
    warms_up = False

    async def measure(self, fleet: Fleet, seconds: float) -> Figures:
        room, numbers = ChatRoom("lounge"), count()
        await fill([room], fleet.urls[:JOINED_AT], MEMBERS)

        async def say(_: int) -> float:
            return await room.say(next(numbers))

        await run_at_rate(say, rate=RATE, seconds=fleet.target.warm_up.seconds)
        idle = await idle_cpu(fleet, IDLE_SECONDS)
        room.latencies.clear()
        meter = Meter(fleet)
        result = await run_at_rate(say, rate=RATE, seconds=seconds)
        cpu, elapsed = meter.read(), meter.seconds
        room.close()
        delivered = len(room.latencies)
        return {
            SERVER_CPU: 1000 * cpu.servers / delivered,
            ALONE_CPU: 1000 * (cpu.servers - idle * elapsed) / delivered,
            "idle, ms per s": idle,
            "Redis, µs per delivered message": 1000 * cpu.redis / delivered,
            "load generator, µs per delivered message": 1000 * cpu.generator / delivered,
            "delivery p50, ms": 1000 * percentile(room.latencies, 0.5),
            "delivery p99, ms": 1000 * percentile(room.latencies, 0.99),
            "largest start delay, ms": 1000 * result.lag,
            LOST: round(RATE * seconds) * MEMBERS - delivered,
        }

    def verdict(self, runs: Runs) -> list[str]:
        lines = []
        for instances in (FEWEST, MOST):
            broker, node = Setup(BROKER, instances), Setup(NODE, instances)
            if {broker, node} <= runs.keys():
                bar = BAR if instances == FEWEST else None
                lines.append(compare_setups(runs, broker, node, SERVER_CPU, bar=bar))
        for name in (BROKER, NODE):
            most, fewest = Setup(name, MOST), Setup(name, FEWEST)
            if {most, fewest} <= runs.keys():
                bar = GROWTH_BAR if name == BROKER else None
                lines.append(compare_setups(runs, most, fewest, SERVER_CPU, bar=bar))
                lines.append(compare_setups(runs, most, fewest, ALONE_CPU))
        return lines


BENCHMARK = Chat()
