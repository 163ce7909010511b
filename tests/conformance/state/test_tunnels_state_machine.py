"""Random calls to the stores of tunnels give the same results in memory and in Redis.

Times are multiples of ten seconds, so that the time of a run does not matter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from broker.state import StateBackend
from broker.tunnels.model import TunnelState
from broker.tunnels.ports import STREAM_MAX, Push, TunnelQuery, TunnelStores
from tests.support.differential import Differential, differential
from tests.support.servers.redis import Engines
from tests.support.state_machines import run_machine
from tests.support.tunnels import a_close, a_tunnel

INSTANCES = ("one", "two")

ids = st.sampled_from(["", "", "a", "b", "c"])
remotes = st.integers(0, 1)
tunnels = st.integers(0, 1)


class TunnelCalls(RuleBasedStateMachine):
    """Calls on two tunnels of one app.

    records: the tunnels as they were last stored.
    """

    def __init__(self, states: Differential) -> None:
        super().__init__()
        self.states = states
        self.memory = states.empty()
        self.records = [a_tunnel(groups=("g",), version=0) for _ in "ab"]
        for number in range(2):
            self.change(remote=0, tunnel=number, attachment=0, state=TunnelState.OPEN, at=0)

    def compare(self, remote: int, act: Callable[[TunnelStores], Awaitable[Any]]) -> Any:
        """Call both states, and return their common result."""

        async def call(store: StateBackend) -> Any:
            return await act(store.tunnels)

        expected, result = self.states.both(self.memory, remote, call)
        if isinstance(expected, set | list) and isinstance(result, list):
            expected, result = list(expected), list(result)
            if expected and isinstance(expected[0], str):
                expected, result = sorted(expected), sorted(result)
        assert result == expected
        return expected

    @rule(
        remote=remotes,
        tunnel=tunnels,
        attachment=st.integers(0, 3),
        state=st.sampled_from(TunnelState),
        at=st.integers(0, 1),
    )
    def change(
        self, remote: int, tunnel: int, attachment: int, state: TunnelState, at: int
    ) -> None:
        record = self.records[tunnel]
        after = replace(
            record,
            attachment=max(1, attachment),
            version=record.version + 1,
            state=state,
            instance=INSTANCES[at],
            groups=("g", f"g{attachment}"),
            due_at=self.states.clock() + 10.0 * attachment,
        )
        changed = self.compare(
            remote,
            lambda stores: stores.records.change(
                after, attachment=record.attachment if record.version else 0, takes_seq=bool(at)
            ),
        )
        if changed is not None:
            self.records[tunnel] = after

    @rule(remote=remotes, tunnel=tunnels, seq=st.integers(1, 3), chance=st.integers(0, 4))
    def end(self, remote: int, tunnel: int, seq: int, chance: int) -> None:
        if not chance:  # seldom, so that most tunnels live long
            closed = a_close(self.records[tunnel], seq=seq)
            self.compare(remote, lambda stores: stores.records.end(closed))

    @rule(
        remote=remotes,
        tunnel=tunnels,
        pushes=st.lists(st.tuples(ids, st.sampled_from([10, 30, 300])), max_size=5),
        count=st.sampled_from([1, 1, 1, STREAM_MAX // 2]),
    )
    def append(self, remote: int, tunnel: int, pushes: list[tuple[str, int]], count: int) -> None:
        record = self.records[tunnel]
        messages = [
            Push(record.id, b"%d" % number, push_id, keep)
            for number, (push_id, keep) in enumerate(pushes * count)
        ]
        self.compare(remote, lambda stores: stores.streams.append(record.owner, "native", messages))

    @rule(remote=remotes, tunnel=tunnels, position=st.integers(-1, 150), at=st.integers(0, 1))
    def read(self, remote: int, tunnel: int, position: int, at: int) -> None:
        positions = {self.records[tunnel].id: position, self.records[1 - tunnel].id: 0}

        async def act(stores: TunnelStores) -> object:
            found = await stores.streams.read(positions, INSTANCES[at])
            return {key: one._replace(messages=list(one.messages)) for key, one in found.items()}

        self.compare(remote, act)

    @rule(remote=remotes, tunnel=tunnels, offset=st.integers(0, 150))
    def ack(self, remote: int, tunnel: int, offset: int) -> None:
        offsets = {self.records[tunnel].id: offset}
        self.compare(remote, lambda stores: stores.streams.ack(offsets))

    @rule(tunnel=tunnels, message_id=ids, remote=remotes, is_settled=st.booleans())
    def number(self, tunnel: int, message_id: str, remote: int, is_settled: bool) -> None:
        record = self.records[tunnel]
        self.compare(
            remote,
            lambda stores: stores.inboxes.number(record.id, record.attachment, message_id),
        )
        if is_settled:
            reply = b"reply to %d" % record.version
            self.compare(remote, lambda stores: stores.inboxes.settle(record.id, message_id, reply))

    @rule(at=st.integers(0, 1))
    def changed(self, at: int) -> None:
        self.compare(0, lambda stores: stores.streams.changed(INSTANCES[at]))

    @rule(remote=remotes, seconds=st.sampled_from([10, 20, 110, 120, 3_590, 3_600]))
    def pass_time(self, remote: int, seconds: int) -> None:
        self.states.pass_time(seconds)
        if seconds > 120:
            self.touch(remote)

    @rule(remote=remotes)
    def touch(self, remote: int) -> None:
        seen = {one.id: (one.attachment, self.states.clock()) for one in self.records}
        self.compare(remote, lambda stores: stores.records.touch(seen))
        for number, record in enumerate(self.records):
            self.records[number] = self.stored(remote, record.id) or record

    def stored(self, remote: int, tunnel_id: str) -> Any:
        return self.compare(remote, lambda stores: stores.records.get(tunnel_id))

    @rule(remote=remotes, number=st.integers(0, 3), at=st.integers(0, 1))
    def find(self, remote: int, number: int, at: int) -> None:
        owner = self.records[0].owner
        for query in (
            TunnelQuery(owner),
            TunnelQuery(owner, group=f"g{number}"),
            TunnelQuery(instance=INSTANCES[at]),
        ):
            self.compare(remote, partial(first_found, query))
        self.compare(remote, lambda stores: stores.index.count(owner))
        self.compare(remote, lambda stores: stores.index.owners())

        async def due(stores: TunnelStores) -> list[str]:
            return [one.id for one in await stores.index.due(10)]

        self.compare(remote, due)


async def first_found(query: TunnelQuery, stores: TunnelStores) -> object:
    return await stores.index.find(query, limit=1)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("engine", "examples"), [("valkey", 60), ("cluster", 10)])
def test_random_calls_on_tunnels_give_equal_results(
    engines: Engines, engine: str, examples: int
) -> None:
    with differential(engines, engine) as states:
        run_machine(lambda: TunnelCalls(states), examples=examples, steps=30)
