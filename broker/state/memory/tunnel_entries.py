"""One tunnel in memory: its record, its stream and its inbox. The caller passes the time."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from broker.tunnels.model import ClosedTunnel, StoredMessage, Tunnel, TunnelState
from broker.tunnels.ports import (
    PUSH_ID_TTL,
    PUSH_IDS_MAX,
    READ_MAX,
    REPLIES_MAX,
    REPLY_TTL,
    STREAM_MAX,
    Push,
)

_T = TypeVar("_T")


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

    @property
    def size(self) -> int:
        """The bytes of all messages."""
        return sum(len(one.stored.data) for one in self._messages)

    def append(self, push: Push, now: float) -> int:
        self.drop_expired(now)
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
        self.drop_expired(now)
        after = [one.stored for one in self._messages if one.stored.offset > position]
        first = after[0].offset if after else self.last + 1
        return after[:READ_MAX], first <= position + 1

    def drop_expired(self, now: float) -> None:
        while self._messages and self._messages[0].ends_at <= now:
            self._messages.popleft()

    def sweep(self, now: float) -> None:
        self.drop_expired(now)
        for key, (ends_at, _) in list(self._ids.items()):
            if ends_at > now:
                break
            del self._ids[key]


class TunnelEntry:
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

    def settle(self, message_id: str, reply: bytes, now: float) -> None:
        number = self.numbered.get(message_id)
        if number is not None and number.ends_at > now:
            self.numbered[message_id] = number._replace(reply=reply)

    @property
    def size(self) -> int:
        """The bytes of messages and replies."""
        return self.stream.size + sum(len(one.reply or b"") for one in self.numbered.values())

    def sweep(self, now: float) -> None:
        """Drop what has expired."""
        self.stream.sweep(now)
        for key, number in list(self.numbered.items()):
            if number.ends_at > now:
                break
            del self.numbered[key]


def _remember(known: OrderedDict[str, _T], key: str, value: _T, limit: int) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > limit:
        known.popitem(last=False)
