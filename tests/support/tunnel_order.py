"""Clients of tunnels that send, resume and lose sockets in random order."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from hypothesis import strategies as st

from broker.state import StateBackend
from broker.tunnels.attaching import Attached
from tests.support.tunnel_instances import FakeSocket, FlakyBackend, Instance, running_instances

TUNNELS = 20
"""Tunnels of one example."""

Step = tuple[str, int]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send", "resume", "lose", "down", "up", "pass"]),
        st.integers(0, TUNNELS - 1),
    ),
    min_size=20,
    max_size=120,
)


class Client:
    """A client that sends each message until it has its reply."""

    def __init__(self, socket: FakeSocket, attached: Attached) -> None:
        self.socket = socket
        self.attached = attached
        self.sent = 0
        self._replies: list[str] = []

    def send(self) -> None:
        self.sent += 1
        self.socket.send(f"m{self.sent}")

    def unanswered(self) -> list[str]:
        replies = {*self._replies, *self.socket.replies}
        return [one for n in range(self.sent) if (one := f"m{n + 1}") not in replies]

    async def resume(self, instance: Instance) -> None:
        socket = await instance.resume(self.attached)
        if socket is not None:
            self._replies += self.socket.replies
            self.socket = socket
            for message_id in self.unanswered():
                socket.send(message_id)


async def run_steps(steps: list[Step], backend: FlakyBackend, instances: list[Instance]) -> None:
    clients = [Client(*(await instances[n % 2].open())) for n in range(TUNNELS)]
    for action, n in steps:
        if action == "send":
            clients[n].send()
        elif action == "resume":
            await clients[n].resume(instances[(n + clients[n].sent) % 2])
        elif action == "lose":
            clients[n].socket.lose()
        elif action == "down":
            backend.is_up.clear()
        elif action == "up":
            backend.is_up.set()
        else:
            await asyncio.sleep(0)
    backend.is_up.set()
    for n, client in enumerate(clients):
        await client.resume(instances[n % 2])
    async with asyncio.timeout(60):
        while any(client.unanswered() for client in clients):
            await asyncio.sleep(0)


async def backend_after(steps: list[Step], store: StateBackend) -> FlakyBackend:
    """Return the backend after the steps, at two instances over a state."""
    backend = FlakyBackend()
    async with running_instances(store, backend, "one", "two") as instances:
        await run_steps(steps, backend, instances)
    return backend


def assert_order(backend: FlakyBackend) -> None:
    """Check that each number and each message was accepted once, without a gap."""
    for tunnel_id, accepted in backend.accepted.items():
        numbers: dict[str, set[int]] = defaultdict(set)
        for seq, message_id in accepted:
            numbers[message_id or f"open {seq}"].add(seq)
        used = {seq for seqs in numbers.values() for seq in seqs}
        given_up = backend.given_up.get(tunnel_id, set())
        assert used | given_up == {*range(1, max(used | given_up) + 1)}
        assert all(len(seqs) == 1 for seqs in numbers.values())
        assert len(used) == len(numbers)
