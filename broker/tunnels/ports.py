"""Ports of tunnels: their storage, and the callbacks to backends.

Storage methods raise Unavailable. A change may then have been stored or not.

`notify` in a result names the instance that the caller must notify of the tunnel, with the
notice `TUNNEL_NEWS`. It is empty if there is none, or if the state has published the notice
itself: a state that also carries the bus does so in the same round trip. In both cases the
tunnel is in that instance's set of changed tunnels before the method returns.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from broker.tunnels.model import (
    AcceptedOpening,
    ClosedTunnel,
    MessageAnswer,
    Opening,
    StoredMessage,
    Tunnel,
    TunnelState,
)

TUNNEL_NEWS = "tunnel-news"
"""The event of the notice that a tunnel has messages, another instance, or has ended."""

STREAM_MAX = 100
"""Messages in a tunnel's stream. The next one drops the oldest."""

READ_MAX = 32
"""Messages of one tunnel that one `read` returns."""

PUSH_ID_TTL = 120.0
"""Seconds for which the `id` of a push is remembered."""

PUSH_IDS_MAX = 256
"""Push ids that a tunnel remembers. The next one drops the oldest."""

REPLY_TTL = 120.0
"""Seconds for which the `id` of a client message is remembered, with its reply."""

REPLIES_MAX = 64
"""Client ids that a tunnel remembers. The next one drops the oldest."""

CLOSED_TTL = 120.0
"""Seconds for which an ended tunnel and its stream can be read, so that its instance can send
the last messages and the close."""

AWAY_TIMEOUT_MAX = 86_400
"""Seconds for which a tunnel can be away. A push is kept for replay at most as long."""

RECORD_TTL = 2.0 * AWAY_TIMEOUT_MAX
"""Seconds after the last `change` or `touch` at which a record is deleted. This is a safety
net: jobs end tunnels earlier, also those that are away for long."""

PAGE_MAX = 100
"""Tunnels of one page."""


class TicketStore(Protocol):
    """Stores tunnels whose ticket was not used yet."""

    async def put(self, ticket_hash: bytes, tunnel: Tunnel, expires_at: float) -> None:
        """Store a tunnel until `expires_at`, under its shard and the SHA-256 of its ticket.

        Raises Unavailable if the store is full; nothing is stored then.
        """

    async def take(self, shard: str, ticket_hash: bytes) -> Tunnel | None:
        """Remove and return the tunnel; None if it is unknown, was taken, or has expired.

        shard: the first character of the ticket.
        Of simultaneous calls over all instances one gets the tunnel. Expiry is judged by the
        state's clock.
        """


class ChangedTunnel(NamedTuple):
    """seq: the number of the tunnel's last callback, with the one that was taken now."""

    seq: int
    notify: str = ""


class TunnelStore(Protocol):
    """Stores the records of tunnels, from the ticket's use to their end."""

    async def get(self, tunnel_id: str) -> Tunnel | None:
        """Return the record; None if the tunnel has ended or never existed."""

    async def change(
        self, tunnel: Tunnel, *, attachment: int, takes_seq: bool = False
    ) -> ChangedTunnel | None:
        """Store `tunnel` if the stored record has this attachment number and the version before.

        `tunnel.version` is one more than that of the stored record, so that no change is lost.
        attachment: 0 to store a new tunnel, which must not exist; its version is not compared.
        takes_seq: whether to take the next number of a callback with it.
        If the instance or the attachment changes, the former instance of an open tunnel gets
        news. Returns None, and changes nothing, for another attachment number or version, an ended
        tunnel and an unknown one. Of simultaneous changes from one version, one succeeds.
        Raises Unavailable if the store is full.
        """

    async def end(self, closed: ClosedTunnel) -> str | None:
        """End the tunnel if its attachment is that of `closed.tunnel`, and return `notify`.

        Returns None if the attachment is another one, or if the tunnel has ended before with
        another `seq`. A repeat with the same `seq`, up to `CLOSED_TTL` later, succeeds. Of
        simultaneous calls with different `seq` one succeeds. From then on `get`, `find`,
        `append`, `change` and `number` do not know the tunnel. The instance of an open tunnel
        gets news.
        """

    async def touch(self, seen: Mapping[str, tuple[int, float]]) -> Collection[str]:
        """Store `seen_at` and extend the records' lives, in one round trip. Versions stay.

        seen: attachment number and `seen_at`, by tunnel id; at most a few hundred.
        Returns the ids whose record is missing or has another attachment. They are unchanged.
        """


class TunnelQuery(NamedTuple):
    """A condition on tunnels: those of `owner` and of the first field that is not empty.

    owner: the key of an app (`Tunnel.owner`).
    instance: the tunnels of this instance that are open; `owner` is not used then.
    """

    owner: str = ""
    subject: str = ""
    group: str = ""
    person: str = ""
    instance: str = ""

    def matches(self, tunnel: Tunnel) -> bool:
        if self.instance:
            return tunnel.instance == self.instance and tunnel.state is TunnelState.OPEN
        if tunnel.owner != self.owner:
            return False
        if self.subject:
            return tunnel.subject == self.subject
        if self.group:
            return self.group in tunnel.groups
        return not self.person or tunnel.person == self.person


class TunnelPage(NamedTuple):
    """next: the `after` of the next page; empty on the last one."""

    tunnels: Sequence[Tunnel]
    next: str = ""


class TunnelIndex(Protocol):
    """Finds tunnels. It sees a change at the latest when the change has returned."""

    async def find(
        self, query: TunnelQuery, *, after: str = "", limit: int = PAGE_MAX
    ) -> TunnelPage:
        """Return tunnels in the order of their ids.

        after: return those after this id. A page may be shorter than `limit` and have a next
        one. A tunnel that matches during all calls is on exactly one page.
        """

    async def count(self, owner: str) -> int:
        """Return how many tunnels the app has. Ended ones are not counted.

        owner: the key of the app (`Tunnel.owner`).
        """

    async def owners(self) -> Collection[str]:
        """Return the instances that open tunnels name."""

    async def due(self, limit: int) -> Sequence[Tunnel]:
        """Return tunnels whose `due_at` has passed by the state's clock, except those with 0.

        A tunnel is returned again until it changes or ends.
        """


class Push(NamedTuple):
    """A message for one tunnel.

    data: JSON text in UTF-8.
    id: equal for repeats of one message; empty if it has none.
    keep: seconds for which the message is kept for replay, or as long as an earlier one.
    """

    tunnel_id: str
    data: bytes
    id: str = ""
    keep: float = 120.0


class AppendedMessage(NamedTuple):
    """is_open: whether the tunnel is open and not away."""

    offset: int
    is_open: bool
    notify: str = ""


class StreamReading(NamedTuple):
    """The news of a tunnel for its instance.

    attachment: of the record, or of the record as it ended; 0 if the tunnel is unknown.
    messages: the first ones after the position, in order, at most `READ_MAX`.
    last: the offset of the last message that was ever appended; 0 for none.
    is_complete: whether no message between the position and `last` is missing: each is in
        `messages` or follows them.
    closed: how the tunnel ended; None if it has not.
    is_open: whether the tunnel is open and not away, or was at its end.
    """

    attachment: int
    messages: Sequence[StoredMessage] = ()
    last: int = 0
    is_complete: bool = True
    closed: ClosedTunnel | None = None
    is_open: bool = False


class TunnelStream(Protocol):
    """Stores the messages for the clients of tunnels.

    A tunnel's offsets are 1, 2, 3, … without a gap. A stream holds at most `STREAM_MAX`
    messages, without a gap between them: they are deleted in their order. That is when `keep` has
    passed, for a message and for those before it, when `ack` covers it, or when the stream is
    full. An ended tunnel keeps its stream for `CLOSED_TTL`.
    """

    async def append(
        self, owner: str, api: str, pushes: Sequence[Push]
    ) -> Sequence[AppendedMessage | None]:
        """Append messages in order, in one round trip, and return one result for each.

        None: the tunnel has ended, is unknown, or is not of this `owner` and `api`.
        A repeated `id` to the same tunnel within `PUSH_ID_TTL` stores nothing and returns the
        offset of the first. The instance of an open tunnel gets news.
        """

    async def read(
        self, positions: Mapping[str, int], instance: str
    ) -> Mapping[str, StreamReading]:
        """Return the news of tunnels after a position (an offset), in one round trip.

        Each id has a reading. It leaves the changed set of `instance` before the tunnel is
        read, so that a later change marks it again.
        """

    async def ack(self, offsets: Mapping[str, int]) -> None:
        """Delete the messages up to an offset, by tunnel id. Unknown tunnels are ignored."""

    async def changed(self, instance: str) -> Collection[str]:
        """Empty the instance's set of changed tunnels and return it, with one command.

        After Unavailable, the next call returns them again. A set expires `RECORD_TTL` after its
        last change.
        """


class NumberedMessage(NamedTuple):
    """seq: the callback's number.  tunnel: the record.

    reply: what `settle` stored for the client's id; None if the callback must be made.
    """

    seq: int
    tunnel: Tunnel
    reply: bytes | None = None


class TunnelInbox(Protocol):
    """Numbers the callbacks of tunnels.

    A tunnel's numbers are 1, 2, 3, … across instances. `TunnelStore.change` takes some of them.
    """

    async def number(
        self, tunnel_id: str, attachment: int, message_id: str = ""
    ) -> NumberedMessage | None:
        """Take the next number, in one round trip; None if the attachment is not the current one
        or the tunnel has ended.

        message_id: the client's id; empty if it has none. A number that was taken for it in the
        last `REPLY_TTL` is returned again, with the stored reply if there is one. At most
        `REPLIES_MAX` ids are remembered.
        """

    async def settle(self, tunnel_id: str, message_id: str, reply: bytes) -> None:
        """Store the reply of a numbered client id until its `REPLY_TTL` ends. Does nothing if the
        id is unknown."""


@dataclass(frozen=True, slots=True)
class TunnelStores:
    """The stores of one state."""

    tickets: TicketStore
    records: TunnelStore
    index: TunnelIndex
    streams: TunnelStream
    inboxes: TunnelInbox


class OpeningRefused(Exception):
    """The backend refused `tunnel.open` with 401 or 403 and a JSON object."""


class CallbackFailed(Exception):
    """A callback has no valid answer after its last attempt, or was not attempted.

    retryable: whether there was no connection, so that the backend has not received it.
    """

    def __init__(self, reason: str = "", *, retryable: bool = False) -> None:
        super().__init__(reason)
        self.retryable = retryable


class TunnelCallbacks(Protocol):
    """Sends the callbacks of one API to backends.

    The caller keeps the order: it awaits each callback of a tunnel before the next. It cancels a
    call whose tunnel is attached elsewhere; nothing is sent for it after that.
    An implementation limits the callbacks in flight for each app, repeats, measures and logs.
    The `webhook-id` is `<tunnel_id>.<seq>`.
    """

    async def open(self, tunnel: Tunnel, seq: int, opening: Opening) -> AcceptedOpening:
        """Send `tunnel.open` once. Raises OpeningRefused or CallbackFailed."""

    async def message(
        self,
        tunnel: Tunnel,
        seq: int,
        data: bytes,
        message_id: str,
        *,
        may_repeat: Callable[[], Awaitable[bool]],
    ) -> MessageAnswer:
        """Send `tunnel.message`, with repeats. Raises CallbackFailed.

        data: JSON text in UTF-8.  message_id: the client's; empty if it has none.
        may_repeat: called before each repeat. False gives the message up: another instance has
            the tunnel, or it has ended.
        """

    async def schedule_close(self, closed: ClosedTunnel, *, delay: float) -> None:
        """Store that `tunnel.close` is to be sent, first after `delay` seconds.

        Any instance sends it then: it first calls `TunnelStore.end` again, and sends nothing if
        that returns None. So a close is not lost if this process ends. Raises Unavailable.
        """

    async def close(self, closed: ClosedTunnel) -> None:
        """Send a scheduled `tunnel.close` now. If that fails, it is repeated later as scheduled.

        It raises no error.
        """

    async def cancel_close(self, closed: ClosedTunnel) -> None:
        """Delete a scheduled `tunnel.close`, because another call ended the tunnel.

        Raises Unavailable.
        """
