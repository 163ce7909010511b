"""What lives minutes: logins and the phones' sessions.

State is truth.  A change is stored here first; the bus only says "look".
Each backend is one file; `STATES` is the table of them, by URL scheme.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from importlib import import_module
from typing import Protocol
from urllib.parse import urlsplit

from broker.login import Login, Notice, Phone

KEPT = 120
"""Seconds for which a login is kept past its end, so that a late browser or phone
hears what became of it rather than that there never was one."""

Clock = Callable[[], float]
"""Unix time in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A phone's login state.

    id: public half, 22 URL-safe characters.
    skey_hash: SHA-256 of the secret half.
    expires_at: Unix time in seconds.
    """

    id: str
    skey_hash: bytes
    phone: Phone
    expires_at: float


class Swapped(IntEnum):
    """What became of a swap."""

    LOST = 0
    """Another change was first."""

    STORED = 1
    """The change is stored, and nobody has been told."""

    TOLD = 2
    """It is stored, and the notice has gone out with it."""


class Logins(Protocol):
    """Where logins are kept, at least until `KEPT` seconds past their end."""

    async def add(self, login: Login) -> None:
        """Keep a new login, findable by id and by scene.

        A scene that is used again finds the newer login from then on.
        Raises Unavailable when there is no room, and then nothing is kept.
        """

    async def get(self, login_id: str) -> Login | None:
        """The login as it was last stored, or None."""

    async def by_scene(self, scene: str) -> Login | None:
        """The login that was last added under `scene`, or None."""

    async def swap(self, before: Login, after: Login, notice: Notice | None = None) -> Swapped:
        """Store `after` if what is stored is still `before` (same version).

        `notice` is for the instance of `before`.  A state that the bus lies in sends it
        in the same trip; otherwise it is left to whoever asked.
        Of any number of simultaneous swaps of one version, one succeeds.  Where
        Unavailable is raised it may have been stored all the same.
        """

    async def changed(self, known: Mapping[str, int]) -> dict[str, Login | None]:
        """Those of the logins in `known` whose version is another now, or that are gone (None).

        `known` maps ids to versions.  Cheap for those that have not changed.
        """

    async def secure(self, login: Login) -> None:
        """Return once what is stored of `login` would outlive the loss of a server.

        Raises Unavailable where that cannot be had now; what is stored stays.
        """


class Sessions(Protocol):
    """Where sessions are kept until their end."""

    async def put(self, session: Session) -> None:
        """Keep the session; where there is no room, those that end first make some."""

    async def get(self, session_id: str) -> Session | None:
        """The session, or None once it has ended or where there never was one."""


@dataclass(frozen=True, slots=True)
class Store:
    """A backend: one store by noun.

    clock: the time that all instances over this state share.
    open: connects; where that fails, goes on trying in the background.
    trouble: why nothing can be asked just now; None when it can.
    """

    logins: Logins
    sessions: Sessions
    clock: Clock
    open: Callable[[], Awaitable[None]]
    trouble: Callable[[], str | None]
    close: Callable[[], Awaitable[None]]


STATES: Mapping[str, str] = {
    "memory": "broker.state.memory",
    "redis": "broker.state.redis",
    "rediss": "broker.state.redis",
    "redis+sentinel": "broker.state.redis",
    "rediss+sentinel": "broker.state.redis",
    "redis+cluster": "broker.state.redis",
    "rediss+cluster": "broker.state.redis",
}


def open_state(
    url: str, clock: Clock | None = None, *, replicas: int = 0, tells: bool = False
) -> Store:
    """The state that `url` names, not yet connected.

    clock: replaces the state's own.  replicas: how many must hold a login for it
    to be secure, where the state has replicas.  tells: the bus is at the same
    address, so that one trip may store a change and tell of it.
    Raises ValueError for a scheme that is not in `STATES`, or a URL that names nothing.
    """
    scheme = urlsplit(url).scheme
    if scheme not in STATES:
        raise ValueError(f"unknown state {scheme!r}: want one of {', '.join(sorted(STATES))}")
    store: Store = import_module(STATES[scheme]).open_store(
        url, clock, replicas=replicas, tells=tells
    )
    return store
