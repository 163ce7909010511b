"""Rate limits on what clients send: frames by socket and by address, polling sessions by address.

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

NEWCOMER_FRAMES = 32
"""Frames of a new socket that the limit of its address does not refuse.  A login takes about
six, so neighbours of a client that floods can log in; for that client a new connection
costs more than the frames."""

SWEEP_ABOVE = 10_000
"""Addresses in memory above which unused ones are removed."""

SOCKET, ADDRESS, POLLING = "socket", "address", "polling"
"""Which limit was exceeded: the label of a metric."""


class ClientLimits(NamedTuple):
    """frames: per minute.  polling: sessions of one address at a time that poll."""

    socket_frames: int
    address_frames: int
    polling: int


class Address:
    """What is counted for one rate limit key.

    full_at: when its bucket is full again.  sockets: how many refer to it.
    """

    __slots__ = ("full_at", "key", "polling", "sockets")

    def __init__(self, key: str) -> None:
        self.key = key
        self.full_at = 0.0
        self.sockets = 0
        self.polling = 0


class Sender(Protocol):
    """A socket as the rate limiter counts it.

    address: None if nothing is counted.  full_at: when its bucket is full again.
    received: frames received from it in total.
    """

    address: Address | None
    full_at: float
    received: int


class TransportRateLimiter:
    """Counts what each socket and each address sends.  Local to this process.

    limits: None counts nothing.  key_of: the rate limit key of a connection, from what
    the server keeps of its request.  refused: called with the name of a limit that was
    exceeded.  clock: seconds.
    """

    def __init__(
        self,
        limits: ClientLimits | None = None,
        key_of: Callable[[Any], str] = str,
        refused: Callable[[str], None] = lambda limit: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._refused = refused
        self.key_of = key_of
        self._addresses: dict[str, Address] = {}
        self._sweep_above = SWEEP_ABOVE

    def __len__(self) -> int:
        return len(self._addresses)

    def open(self, sender: Sender, key: str, *, polls: bool) -> bool:
        """Count a new socket, until `close`; False if its address has too many that poll."""
        if self._limits is None:
            return True
        address = self._addresses.get(key) or self._add(key)
        if polls and address.polling >= self._limits.polling:
            self._refused(POLLING)
            return False
        address.sockets += 1
        address.polling += polls
        sender.address = address
        return True

    def close(self, sender: Sender, *, polls: bool) -> None:
        address, sender.address = sender.address, None
        if address is None:
            return
        address.sockets -= 1
        address.polling -= polls
        if _is_idle(address, self._clock()):
            self._addresses.pop(address.key, None)

    def move(self, sender: Sender, other: Sender) -> None:
        """Count `other`, which does not poll, in place of `sender`, which did."""
        if sender.address is not None:
            sender.address.polling -= 1
            sender.address = None
        other.full_at = max(sender.full_at, other.full_at)
        other.received += sender.received

    def spend(self, sender: Sender, frames: int) -> bool:
        """Count received frames; False if they exceed a limit and the socket must be closed.

        An address over its limit closes only sockets that have sent more than
        `NEWCOMER_FRAMES`.
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
            self._refused(SOCKET)
            return False
        if full_at > now + MINUTE and sender.received > NEWCOMER_FRAMES:
            self._refused(ADDRESS)
            return False
        return True

    def _add(self, key: str) -> Address:
        if len(self._addresses) >= self._sweep_above:
            self._sweep()
        address = self._addresses[key] = Address(key)
        return address

    def _sweep(self) -> None:
        """Forget addresses without sockets, rarely, so that the average cost is small."""
        now = self._clock()
        kept = {key: one for key, one in self._addresses.items() if not _is_idle(one, now)}
        self._addresses = kept
        self._sweep_above = max(SWEEP_ABOVE, 2 * len(kept))


def _is_idle(address: Address, now: float) -> bool:
    return not address.sockets and address.full_at <= now


class TooManyPackets(RateLimited):
    """A Socket.IO client sends too many packets, or its address has too many polling sessions."""

    description = "too many Socket.IO packets or sessions; try again later"

    def __init__(self) -> None:
        super().__init__(60)


FLOODS = Counter(
    "scanlogin_sockets_refused", "Socket.IO sessions closed or refused by a rate limit", ["limit"]
)
