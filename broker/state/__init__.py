"""What lives minutes, or days: logins, the phones' sessions, leases of codes, duties.

State is truth.  A change is stored here first; the bus only says "look".
Each backend is a file or a folder; `STATES` is the table of them, by URL scheme.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from importlib import import_module
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from broker.login import Login, Notice, Phone, shelf

KEPT = 120
"""Seconds for which a login is kept past its end, so that a late browser or phone
hears what became of it rather than that there never was one."""

BACK_AT_ONCE = 100
"""Rested numbers that one lease brings back at most: after a quiet night of a large pool,
the first login does not keep the state from all others."""

SESSIONS_MAX = 20
"""Sessions that one person may have in one app: phones, and those that forgot theirs."""

Clock = Callable[[], float]
"""Unix time in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A phone's login state.

    id: public half, 22 URL-safe characters, the first of which is the person's shelf.
    skey_hash: SHA-256 of the secret half.
    expires_at: Unix time in seconds; use puts it off.
    latest_end: Unix time in seconds beyond which no use does.
    session_key: what the phone's mini program signs and encrypts with, sealed, and the
        id of the key that sealed it; None where its provider has none.
    incarnation: of the app that it was opened in.
    """

    id: str
    skey_hash: bytes = field(repr=False)
    phone: Phone
    expires_at: float
    latest_end: float
    session_key: tuple[bytes, str] | None = field(default=None, repr=False)
    incarnation: str = ""


def person(phone: Phone) -> str:
    """A name for who holds the phone, within one app, that tells nobody who that is."""
    parts = "\0".join((phone.app, phone.identity.provider, phone.identity.id))
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


def new_session_id(phone: Phone) -> str:
    """At least 120 random bits, behind the shelf on which all of this person's sessions lie."""
    return shelf(person(phone)) + secrets.token_urlsafe(16)[1:]


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
        """Keep a new session.

        Where its person has `SESSIONS_MAX` already, or there is no room at all, those
        that end first make some.
        """

    async def get(self, session_id: str) -> Session | None:
        """The session, or None once it has ended or where there never was one."""

    async def put_off(self, session: Session, expires_at: float) -> bool:
        """Let the session end later; False for one that has been ended, and stays so."""

    async def end(self, phone: Phone, session_id: str | None = None) -> int:
        """End one session of a person, or all; how many there were.

        What is put off at the same time does not come back.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A code drawn ahead of time.

    number: its place in the app's pool, from 0; the lowest free one is leased first.
    drawing: how often the number has been drawn anew.  Each drawing has a scene of its own.
    scene: what the picture says; whoever sees the screen knows it.
    picture: the key of its picture.
    """

    number: int
    drawing: int
    scene: str
    picture: str


class Leased(NamedTuple):
    """A code that is one login's until it is given back, or until its time is over.

    generation: which lease of the number this is; no other of it has the same, ever.
    uses: how often this drawing has been leased, this time included.  It may be less where
        the state has been lost meanwhile.
    """

    code: Code
    generation: int
    uses: int


class Level(NamedTuple):
    """How many numbers of a pool are free, on a screen, and resting."""

    free: int
    leased: int
    resting: int

    @property
    def total(self) -> int:
        return sum(self)


class Leases(Protocol):
    """Pools of codes, one by an app's key: which login holds which number.

    | number is | lease  | give back | its time is over | offered        | withdrawn |
    |-----------|--------|-----------|------------------|----------------|-----------|
    | not there |        |           |                  | free, or rests |           |
    | free      | leased |           |                  |                | not there |
    | leased    |        | rests     | rests            |                | not there |
    | resting   |        |           | free             |                | not there |

    A number rests because its code is still about: photographed, or open on a phone that
    scans late.  Such a scan must find the login that it was meant for, ended, and not a
    stranger's; so `rest` is longer than a login and what it is kept for afterwards.

    Every call may be made again, by any instance; the same call twice does what one does,
    but for a lease, whose number comes back by itself when nobody heard the answer.
    """

    async def lease(self, app: str, *, until: float, rest: float) -> Leased | None:
        """Take the lowest free number until then, Unix time in seconds; None where none is free.

        A number that nobody gives back rests from `until` on.  One trip to the state, and
        as quick in a large pool: what is back from its rest is brought in by leases, at most
        `BACK_AT_ONCE` numbers by each, those first that were back first.
        """

    async def give_back(self, app: str, number: int, generation: int, *, rest: float) -> None:
        """End that lease: the number rests from now on.

        Nothing happens where the lease is over already, or is not the number's present one.
        """

    async def offer(self, app: str, codes: Collection[Code], *, rest: float = 0.0) -> None:
        """Put codes into the pool, for every instance at once.

        Of two drawings of a number the later counts, whichever was offered first, and of one
        drawing what was said last; it is what the number's next lease answers with.  Numbers
        that are there stay as they are: free, leased or resting.  Others are free after `rest`,
        which is for codes that may be on a screen of which the state knows nothing: it was lost.
        Raises Unavailable when there is no room; some may be in the pool then.
        """

    async def withdraw(self, app: str, drawings: Mapping[int, int]) -> None:
        """Take numbers out of the pool, for good: by number, which drawing of it is done with.

        A lease goes on to its end and does not come back.  Only a later drawing of the number
        can be offered again, and where one is in the pool already it stays.
        """

    async def level(self, app: str) -> Level:
        """How full the pool is."""

    async def forget(self, app: str) -> None:
        """Delete the pool of a removed app, and all entries for its numbers."""


class Duties(Protocol):
    """What one instance does for all, such as filling a pool.

    Spares work and guards nothing: an instance that stood still may go on for a moment
    while another has taken over.
    """

    async def hold(self, duty: str, holder: str, *, seconds: float) -> bool:
        """Take the duty, or go on holding it, for so long from now; False while another does."""

    async def release(self, duty: str, holder: str) -> None:
        """Leave the duty to others, where it is this holder's."""


class Images(Protocol):
    """Images of codes that were drawn live, for a page that shows a login's code again.

    A cache: a missing image is drawn again.
    """

    async def put(self, login: Login, url: str) -> None:
        """Keep the image, as a URL, until the login's code expires."""

    async def get(self, login: Login) -> str | None:
        """The image of the login's code, or None."""


INSTANCE_TTL = 6.0
"""Seconds for which an instance counts as running after it last published its profile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """An instance's start time and keys, published for other instances.

    started_at: Unix time in seconds.
    token_keys: the ids of its key set; the first one signs.
    seal_keys: the ids of its seal keys; the first one seals.
    """

    started_at: float
    token_keys: tuple[str, ...]
    seal_keys: tuple[str, ...]


class Instances(Protocol):
    """The instances that run over this state."""

    async def publish(self, instance: str, profile: Profile) -> Mapping[str, Profile]:
        """Publish `profile` for `INSTANCE_TTL` and return those of the other instances."""

    async def leave(self, instance: str) -> None:
        """Remove the instance's profile."""


@dataclass(frozen=True, slots=True)
class Store:
    """A backend: one store by noun.

    clock: the time that all instances over this state share.
    open: connects; where that fails, goes on trying in the background.
    trouble: why nothing can be asked just now; None when it can.
    refusal: the error word by which the state refuses writes; None while it accepts them.
    evicts: whether the state may evict entries to make room; raises Unavailable.
    """

    logins: Logins
    sessions: Sessions
    leases: Leases
    duties: Duties
    images: Images
    clock: Clock
    open: Callable[[], Awaitable[None]]
    trouble: Callable[[], str | None]
    close: Callable[[], Awaitable[None]]
    refusal: Callable[[], str | None]
    evicts: Callable[[], Awaitable[bool]]
    instances: Instances


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
