"""Tunnels in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from broker.infrastructure.clock import Clock
from broker.state.errors import StateCapacityExceeded
from broker.state.memory.expiring_map import CAPACITY, ExpiringMap
from broker.state.memory.tunnel_entries import TunnelEntry
from broker.tunnels.model import ClosedTunnel, Tunnel, TunnelState
from broker.tunnels.ports import (
    CLOSED_TTL,
    PAGE_MAX,
    RECORD_TTL,
    AppendedMessage,
    ChangedTunnel,
    NumberedMessage,
    Push,
    StreamReading,
    TunnelPage,
    TunnelQuery,
    TunnelStores,
)

BYTES_MAX = 256 * 2**20
"""Bytes of the messages and replies of all tunnels."""

SWEEP_INTERVAL = 60.0
"""Seconds after which expired data is dropped that no call has touched."""

FULL_SWEEP_INTERVAL = 1.0
"""The same while the store is full."""


class MemoryTicketStore:
    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        self._tickets: ExpiringMap[Tunnel] = ExpiringMap(clock, capacity)

    async def put(self, ticket_hash: bytes, tunnel: Tunnel, expires_at: float) -> None:
        self._tickets.put(ticket_hash.hex(), tunnel, expires_at)

    async def take(self, shard: str, ticket_hash: bytes) -> Tunnel | None:
        tunnel = self._tickets.get(ticket_hash.hex())
        self._tickets.remove(ticket_hash.hex())
        return tunnel


class MemoryTunnels:
    """TunnelStore, TunnelIndex, TunnelStream and TunnelInbox in one."""

    def __init__(self, clock: Clock, capacity: int = CAPACITY, bytes_max: int = BYTES_MAX) -> None:
        self._clock = clock
        self._capacity = capacity
        self._bytes_max = bytes_max
        self._bytes = 0  # as of the last sweep, and what was added since
        self._swept_at = clock()
        self._entries: dict[str, TunnelEntry] = {}
        self._changed: ExpiringMap[set[str]] = ExpiringMap(clock)

    def __len__(self) -> int:
        """Return how many tunnels are in memory, also ended ones."""
        return len(self._entries)

    async def get(self, tunnel_id: str) -> Tunnel | None:
        entry = self._active(tunnel_id)
        return entry.tunnel if entry else None

    async def change(
        self, tunnel: Tunnel, *, attachment: int, takes_seq: bool = False
    ) -> ChangedTunnel | None:
        entry = self._active(tunnel.id)
        if (entry.tunnel.attachment if entry else 0) != attachment:
            return None
        if entry is None:
            if tunnel.id in self._entries:
                return None
            entry = self._add(tunnel)
        elif entry.tunnel.version + 1 != tunnel.version:
            return None
        former, before = entry.holder, entry.tunnel
        entry.tunnel = tunnel
        entry.ends_at = self._clock() + RECORD_TTL
        entry.seq += takes_seq
        moved = (before.instance, before.attachment) != (tunnel.instance, tunnel.attachment)
        return ChangedTunnel(entry.seq, self._mark(former, tunnel.id) if moved else "")

    async def end(self, closed: ClosedTunnel) -> str | None:
        entry = self._known(closed.tunnel.id)
        if entry is None or entry.tunnel.attachment != closed.tunnel.attachment:
            return None
        if entry.closed is not None:
            return "" if entry.closed.seq == closed.seq else None
        entry.closed = closed
        entry.ends_at = self._clock() + CLOSED_TTL
        return self._mark(entry.holder, closed.tunnel.id)

    async def touch(self, seen: Mapping[str, tuple[int, float]]) -> Collection[str]:
        self._sweep_if_due(is_full=False)
        missing = []
        for tunnel_id, (attachment, seen_at) in seen.items():
            entry = self._active(tunnel_id)
            if entry is None or entry.tunnel.attachment != attachment:
                missing.append(tunnel_id)
                continue
            entry.tunnel = replace(entry.tunnel, seen_at=seen_at)
            entry.ends_at = self._clock() + RECORD_TTL
        return missing

    async def find(
        self, query: TunnelQuery, *, after: str = "", limit: int = PAGE_MAX
    ) -> TunnelPage:
        found = sorted(
            (one for one in self._all_active() if one.id > after and query.matches(one)),
            key=lambda one: one.id,
        )
        page = found[:limit]
        return TunnelPage(page, page[-1].id if len(found) > limit else "")

    async def count(self, owner: str) -> int:
        return sum(one.owner == owner for one in self._all_active())

    async def owners(self) -> Collection[str]:
        return {one.instance for one in self._all_active() if one.state is TunnelState.OPEN}

    async def due(self, limit: int) -> Sequence[Tunnel]:
        now = self._clock()
        return [one for one in self._all_active() if 0 < one.due_at <= now][:limit]

    async def append(
        self, owner: str, api: str, pushes: Sequence[Push]
    ) -> Sequence[AppendedMessage | None]:
        return [self._append(owner, api, push) for push in pushes]

    async def read(
        self, positions: Mapping[str, int], instance: str
    ) -> Mapping[str, StreamReading]:
        (self._changed.get(instance) or set()).difference_update(positions)
        return {tunnel_id: self._read(tunnel_id, at) for tunnel_id, at in positions.items()}

    async def ack(self, offsets: Mapping[str, int]) -> None:
        for tunnel_id, offset in offsets.items():
            entry = self._known(tunnel_id)
            if entry is not None:
                entry.stream.ack(offset)

    async def changed(self, instance: str) -> Collection[str]:
        changed = self._changed.get(instance) or set()
        self._changed.remove(instance)
        return changed

    async def number(
        self, tunnel_id: str, attachment: int, message_id: str = ""
    ) -> NumberedMessage | None:
        entry = self._active(tunnel_id)
        if entry is None or entry.tunnel.attachment != attachment:
            return None
        number = entry.take_seq(message_id, self._clock())
        return NumberedMessage(number.seq, entry.tunnel, number.reply)

    async def settle(self, tunnel_id: str, message_id: str, reply: bytes) -> None:
        entry = self._active(tunnel_id)
        if entry is not None:
            self._reserve(len(reply))
            entry.settle(message_id, reply, self._clock())

    def _append(self, owner: str, api: str, push: Push) -> AppendedMessage | None:
        entry = self._active(push.tunnel_id)
        if entry is None or (entry.tunnel.owner, entry.tunnel.api) != (owner, api):
            return None
        self._reserve(len(push.data))
        offset = entry.stream.append(push, self._clock())
        is_open = entry.tunnel.state is TunnelState.OPEN
        return AppendedMessage(offset, is_open, self._mark(entry.holder, push.tunnel_id))

    def _read(self, tunnel_id: str, position: int) -> StreamReading:
        entry = self._known(tunnel_id)
        if entry is None:
            return StreamReading(0)
        messages, is_complete = entry.stream.read(position, self._clock())
        tunnel = entry.tunnel
        return StreamReading(
            tunnel.attachment,
            messages,
            entry.stream.last,
            is_complete,
            entry.closed,
            tunnel.state is TunnelState.OPEN,
        )

    def _mark(self, instance: str, tunnel_id: str) -> str:
        """Add the tunnel to the instance's changed set, and return the instance."""
        if instance:
            changed = self._changed.get(instance) or set()
            changed.add(tunnel_id)
            self._changed.put(instance, changed, self._clock() + RECORD_TTL)
        return instance

    def _add(self, tunnel: Tunnel) -> TunnelEntry:
        self._sweep_if_due(len(self._entries) >= self._capacity)
        if len(self._entries) >= self._capacity:
            raise StateCapacityExceeded
        entry = self._entries[tunnel.id] = TunnelEntry(tunnel, 0.0)
        return entry

    def _reserve(self, size: int) -> None:
        """Count bytes that are stored now. Raises StateCapacityExceeded."""
        self._sweep_if_due(self._bytes + size > self._bytes_max)
        if self._bytes + size > self._bytes_max:
            raise StateCapacityExceeded
        self._bytes += size

    def _sweep_if_due(self, is_full: bool) -> None:
        now = self._clock()
        if now - self._swept_at < (FULL_SWEEP_INTERVAL if is_full else SWEEP_INTERVAL):
            return
        self._swept_at = now
        self._entries = {key: one for key, one in self._entries.items() if one.ends_at > now}
        for entry in self._entries.values():
            entry.sweep(now)
        self._bytes = sum(entry.size for entry in self._entries.values())

    def _known(self, tunnel_id: str) -> TunnelEntry | None:
        """Return the entry of an active tunnel, or of one that has ended not long ago."""
        entry = self._entries.get(tunnel_id)
        if entry is not None and entry.ends_at <= self._clock():
            del self._entries[tunnel_id]
            return None
        return entry

    def _active(self, tunnel_id: str) -> TunnelEntry | None:
        entry = self._known(tunnel_id)
        return None if entry is None or entry.closed else entry

    def _all_active(self) -> Iterator[Tunnel]:
        now = self._clock()
        return (
            one.tunnel for one in self._entries.values() if not one.closed and one.ends_at > now
        )


def open_tunnels(clock: Clock) -> TunnelStores:
    tunnels = MemoryTunnels(clock)
    return TunnelStores(MemoryTicketStore(clock), tunnels, tunnels, tunnels, tunnels)
