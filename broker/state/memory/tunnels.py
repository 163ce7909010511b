"""Tunnels in memory."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from broker.infrastructure.clock import Clock
from broker.state.errors import StateCapacityExceeded
from broker.state.memory.expiring_map import CAPACITY, ExpiringMap
from broker.tunnels.model import ClosedTunnel, StoredMessage, Tunnel, TunnelState
from broker.tunnels.ports import (
    CLOSED_TTL,
    PAGE_MAX,
    PUSH_ID_TTL,
    PUSH_IDS_MAX,
    READ_MAX,
    RECORD_TTL,
    REPLIES_MAX,
    REPLY_TTL,
    STREAM_MAX,
    AppendedMessage,
    ChangedTunnel,
    NumberedMessage,
    Push,
    StreamReading,
    TunnelPage,
    TunnelQuery,
    TunnelStores,
)

_T = TypeVar("_T")


class MemoryTicketStore:
    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        self._tickets: ExpiringMap[Tunnel] = ExpiringMap(clock, capacity)

    async def put(self, ticket_hash: bytes, tunnel: Tunnel, expires_at: float) -> None:
        self._tickets.put(ticket_hash.hex(), tunnel, expires_at)

    async def take(self, shard: str, ticket_hash: bytes) -> Tunnel | None:
        tunnel = self._tickets.get(ticket_hash.hex())
        self._tickets.remove(ticket_hash.hex())
        return tunnel


class _Message(NamedTuple):
    stored: StoredMessage
    ends_at: float


class _NumberedId(NamedTuple):
    """A client's message id: its number, and its reply once it has one."""

    ends_at: float
    seq: int
    reply: bytes | None = None


class _Stream:
    """The messages of one tunnel.

    last: the offset of the last appended message.
    """

    def __init__(self) -> None:
        self.last = 0
        self._messages: deque[_Message] = deque()
        self._ids: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def append(self, push: Push, now: float) -> int:
        self._drop_expired(now)
        ends_at, offset = self._ids.get(push.id, (0.0, 0))
        if push.id and ends_at > now:
            return offset
        self.last += 1
        before = self._messages[-1].ends_at if self._messages else 0.0
        message = StoredMessage(self.last, push.data)
        self._messages.append(_Message(message, max(before, now + push.keep)))
        if len(self._messages) > STREAM_MAX:
            self._messages.popleft()
        if push.id:
            _remember(self._ids, push.id, (now + PUSH_ID_TTL, self.last), PUSH_IDS_MAX)
        return self.last

    def ack(self, offset: int) -> None:
        while self._messages and self._messages[0].stored.offset <= offset:
            self._messages.popleft()

    def read(self, position: int, now: float) -> tuple[Sequence[StoredMessage], bool]:
        """Return messages after a position, and whether none is missing."""
        self._drop_expired(now)
        after = [one.stored for one in self._messages if one.stored.offset > position]
        first = after[0].offset if after else self.last + 1
        return after[:READ_MAX], first <= position + 1

    def _drop_expired(self, now: float) -> None:
        while self._messages and self._messages[0].ends_at <= now:
            self._messages.popleft()


class _Entry:
    """A record with its stream and its inbox."""

    def __init__(self, tunnel: Tunnel, ends_at: float) -> None:
        self.tunnel = tunnel
        self.ends_at = ends_at
        self.seq = 0
        self.closed: ClosedTunnel | None = None
        self.stream = _Stream()
        self.numbered: OrderedDict[str, _NumberedId] = OrderedDict()

    @property
    def holder(self) -> str:
        """The instance that holds the socket; empty if none does."""
        return self.tunnel.instance if self.tunnel.state is TunnelState.OPEN else ""

    def take_seq(self, message_id: str, now: float) -> _NumberedId:
        known = self.numbered.get(message_id)
        if message_id and known is not None and known.ends_at > now:
            return known
        self.seq += 1
        number = _NumberedId(now + REPLY_TTL, self.seq)
        if message_id:
            _remember(self.numbered, message_id, number, REPLIES_MAX)
        return number


class MemoryTunnels:
    """TunnelStore, TunnelIndex, TunnelStream and TunnelInbox in one."""

    def __init__(self, clock: Clock, capacity: int = CAPACITY) -> None:
        self._clock = clock
        self._capacity = capacity
        self._entries: dict[str, _Entry] = {}
        self._changed: dict[str, set[str]] = {}

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
        self._changed.get(instance, set()).difference_update(positions)
        return {tunnel_id: self._read(tunnel_id, at) for tunnel_id, at in positions.items()}

    async def ack(self, offsets: Mapping[str, int]) -> None:
        for tunnel_id, offset in offsets.items():
            entry = self._known(tunnel_id)
            if entry is not None:
                entry.stream.ack(offset)

    async def changed(self, instance: str) -> Collection[str]:
        return self._changed.pop(instance, set())

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
        number = entry.numbered.get(message_id) if entry else None
        if entry is not None and number is not None and number.ends_at > self._clock():
            entry.numbered[message_id] = number._replace(reply=reply)

    def _append(self, owner: str, api: str, push: Push) -> AppendedMessage | None:
        entry = self._active(push.tunnel_id)
        if entry is None or (entry.tunnel.owner, entry.tunnel.api) != (owner, api):
            return None
        offset = entry.stream.append(push, self._clock())
        is_open = entry.tunnel.state is TunnelState.OPEN
        return AppendedMessage(offset, is_open, self._mark(entry.holder, push.tunnel_id))

    def _read(self, tunnel_id: str, position: int) -> StreamReading:
        entry = self._known(tunnel_id)
        if entry is None:
            return StreamReading(0)
        messages, is_complete = entry.stream.read(position, self._clock())
        return StreamReading(
            entry.tunnel.attachment, messages, entry.stream.last, is_complete, entry.closed
        )

    def _mark(self, instance: str, tunnel_id: str) -> str:
        """Add the tunnel to the instance's changed set, and return the instance."""
        if instance:
            self._changed.setdefault(instance, set()).add(tunnel_id)
        return instance

    def _add(self, tunnel: Tunnel) -> _Entry:
        if len(self._entries) >= self._capacity:
            self._sweep()
        if len(self._entries) >= self._capacity:
            raise StateCapacityExceeded
        entry = self._entries[tunnel.id] = _Entry(tunnel, 0.0)
        return entry

    def _sweep(self) -> None:
        now = self._clock()
        self._entries = {key: one for key, one in self._entries.items() if one.ends_at > now}

    def _known(self, tunnel_id: str) -> _Entry | None:
        """Return the entry of an active tunnel, or of one that has ended not long ago."""
        entry = self._entries.get(tunnel_id)
        if entry is not None and entry.ends_at <= self._clock():
            del self._entries[tunnel_id]
            return None
        return entry

    def _active(self, tunnel_id: str) -> _Entry | None:
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


def _remember(known: OrderedDict[str, _T], key: str, value: _T, limit: int) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > limit:
        known.popitem(last=False)
