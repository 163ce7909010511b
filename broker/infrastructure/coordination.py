"""Coordination of instances: notices on a bus, leader leases, deferred calls, and who runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol


class Bus(Protocol):
    """Carries notices to one instance at a time.

    Notices may be lost; the state is authoritative.
    """

    async def open(self) -> None:
        """Connect. If that fails, retry in the background."""

    async def publish(self, instance: str, notice: Notice) -> None:
        """Send `notice` to `instance` only. It succeeds if that instance does not listen.

        Raises Unavailable if the notice cannot be sent.
        """

    def listen(self, instance: str) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        """Receive every notice sent to `instance` inside the ``async with`` block, in order.

        The subscription is active once the block is entered. Entering the block and waiting
        for a notice raise Unavailable if the subscription is lost. Notices sent after that
        are lost.
        """

    async def close(self) -> None:
        """Close every connection. Listeners end without an error."""


class Notice(NamedTuple):
    """A change, sent to the instance of the clients that are affected.

    event: what has changed, such as `login-confirmed`. It selects the feature that handles it.
    id: of what has changed. The feature defines it; a login's id, or `app/room` for a room.
    """

    event: str
    id: str


class LeaderLeases(Protocol):
    """The right to run a job, such as filling a pool, held by one instance at a time.

    A lease saves work and is not a lock: an instance that was paused may run the job for a
    moment after its lease has ended and another instance has acquired it.
    """

    async def acquire(self, job: str, holder: str, *, seconds: float) -> bool:
        """Acquire or renew the lease for `seconds` from now.

        Returns False if another holder has it.
        """

    async def release(self, job: str, holder: str) -> None:
        """End the lease if `holder` has it."""


class InstanceRegistry(Protocol):
    """Knows which instances of this state have ended."""

    def ended(self, instances: Collection[str]) -> Collection[str]:
        """Return those of `instances` that have not run for 30 seconds.

        An instance that this one cannot judge now is not among them. This needs no request.
        """


RETRY_TIMEOUT = 60.0
"""Seconds after which a deferred call that an instance has taken is due again."""


class DeferredCall(NamedTuple):
    """A call to another server that is to be made later.

    id: unique in its kind.
    kind: what makes the call, such as `logout`.
    receiver: whose server it calls, such as an app's id. Receivers take turns.
    payload: what the kind needs, as JSON; it holds no signed token.
    attempt: 1 for the first.
    """

    id: str
    kind: str
    receiver: str
    payload: str
    attempt: int = 1


class RetryQueue(Protocol):
    """Stores calls that any instance makes when they are due. Methods raise Unavailable."""

    async def put(self, call: DeferredCall, due_at: float) -> None:
        """Store a call, or store the next attempt of one. `due_at` replaces its former time.

        Raises Unavailable if the store is full.
        """

    async def take_due(self, kinds: Collection[str], limit: int) -> Sequence[DeferredCall]:
        """Return calls that are due, at most `limit` of each of these kinds.

        Without `done` or `put`, a call is due again after `RETRY_TIMEOUT`. Of simultaneous calls
        over all instances one gets each call.
        """

    async def done(self, call: DeferredCall) -> None:
        """Delete a call."""
