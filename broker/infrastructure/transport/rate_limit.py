"""Rate limits for frames by socket and by address, and for polling sessions by address.

A rate limit is a token bucket that holds one minute's frames, kept as one number:
the time at which the bucket is full again (the generic cell rate algorithm).
Times are monotonic, so a change of the wall clock has no effect.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from broker.errors import RateLimited
from broker.infrastructure.observability.metrics import Counter

MINUTE = 60.0

NEW_SOCKET_FRAMES = 32
"""Frames of a new socket that the limit of its address does not refuse. A login takes about
six, so other clients of an address that floods can log in. For the flooding client a new
connection costs more than the frames."""

SWEEP_ABOVE = 10_000
"""Addresses in memory above which unused ones are removed."""

SOCKET, ADDRESS, POLLING = "socket", "address", "polling"
"""The limits, as values of a metric's label."""


class ClientLimits(NamedTuple):
    """Frames per minute, and concurrent polling sessions of one address."""

    socket_frames: int
    address_frames: int
    polling_sessions: int


class AddressUsage:
    """Counters of one rate limit key.

    full_at: when its bucket is full again.
    sockets: number of sockets that refer to it.
    """

    __slots__ = ("full_at", "key", "polling_sessions", "sockets")

    def __init__(self, key: str) -> None:
        self.key = key
        self.full_at = 0.0
        self.sockets = 0
        self.polling_sessions = 0


class Sender(Protocol):
    """The counters of one socket.

    address: None if nothing is counted.  full_at: when its bucket is full again.
    received: frames received from it in total.
    """

    address: AddressUsage | None
    full_at: float
    received: int


class TransportRateLimiter:
    """Counts frames and polling sessions. The counters are local to this process.

    limits: None counts nothing.
    key_of: returns the rate limit key for the description of a request.
    on_refused: called with the name of a limit that was exceeded.
    clock: seconds.
    """

    def __init__(
        self,
        limits: ClientLimits | None = None,
        key_of: Callable[[Any], str] = str,
        on_refused: Callable[[str], None] = lambda limit: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._on_refused = on_refused
        self.key_of = key_of
        self._addresses: dict[str, AddressUsage] = {}
        self._sweep_above = SWEEP_ABOVE

    def __len__(self) -> int:
        return len(self._addresses)

    def open(self, sender: Sender, key: str, *, polls: bool) -> bool:
        """Count a new socket until `close`. False if its address has too many polling sessions."""
        if self._limits is None:
            return True
        address = self._addresses.get(key) or self._add(key)
        if polls and address.polling_sessions >= self._limits.polling_sessions:
            self._on_refused(POLLING)
            return False
        address.sockets += 1
        address.polling_sessions += polls
        sender.address = address
        return True

    def close(self, sender: Sender, *, polls: bool) -> None:
        address, sender.address = sender.address, None
        if address is None:
            return
        address.sockets -= 1
        address.polling_sessions -= polls
        if _is_idle(address, self._clock()):
            self._addresses.pop(address.key, None)

    def move(self, sender: Sender, other: Sender) -> None:
        """Count `other`, which does not poll, instead of `sender`, which polled."""
        if sender.address is not None:
            sender.address.polling_sessions -= 1
            sender.address = None
        other.full_at = max(sender.full_at, other.full_at)
        other.received += sender.received

    def spend(self, sender: Sender, frames: int) -> bool:
        """Count received frames. False if they exceed a limit and the socket must be closed.

        An address over its limit closes only sockets that have sent more than
        `NEW_SOCKET_FRAMES`.
        """
        address, limits = sender.address, self._limits
        if limits is None or address is None:
            return True
        now = self._clock()
        sender.received += frames
        sender.full_at = max(sender.full_at, now) + frames * MINUTE / limits.socket_frames
        full_at = max(address.full_at, now) + frames * MINUTE / limits.address_frames
        address.full_at = min(full_at, now + MINUTE)  # frames over the limit do not extend it
        if sender.full_at > now + MINUTE:
            self._on_refused(SOCKET)
            return False
        if full_at > now + MINUTE and sender.received > NEW_SOCKET_FRAMES:
            self._on_refused(ADDRESS)
            return False
        return True

    def _add(self, key: str) -> AddressUsage:
        if len(self._addresses) >= self._sweep_above:
            self._sweep()
        address = self._addresses[key] = AddressUsage(key)
        return address

    def _sweep(self) -> None:
        """Remove unused addresses. Rare, so that the average cost is small."""
        now = self._clock()
        used = {key: usage for key, usage in self._addresses.items() if not _is_idle(usage, now)}
        self._addresses = used
        self._sweep_above = max(SWEEP_ABOVE, 2 * len(used))


def _is_idle(address: AddressUsage, now: float) -> bool:
    return not address.sockets and address.full_at <= now


class TooManyPackets(RateLimited):
    """A Socket.IO client sends too many packets, or its address has too many polling sessions."""

    description = "too many Socket.IO packets or sessions; try again later"

    def __init__(self) -> None:
        super().__init__(60)


REFUSED_SESSIONS = Counter(
    "scanlogin_sockets_refused", "Socket.IO sessions closed or refused by a rate limit", ["limit"]
)
