"""Pool codes and their leases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

SCENE_BYTES = 24
"""192 random bits are 32 characters, as many as WeChat lets a scene have."""


class CodeLease(NamedTuple):
    """A code of the app's pool that this login has on its screen.

    number: its place in the pool.  generation: which lease of the number it is.
    picture: the key of its picture.
    """

    number: int
    generation: int
    picture: str


class PooledCode(NamedTuple):
    """A code that is one login's: what it carries, where its picture is, and its lease."""

    scene: str
    url: str
    lease: CodeLease


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeReservation:
    """A number that somebody draws a code for.

    app: the app's key.
    drawing: how often the number was drawn before.
    until: Unix time in seconds after which somebody else may take it over.
    """

    app: str
    number: int
    drawing: int
    scene: str = field(repr=False)
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRecord:
    """A code drawn ahead of time, which can be shown.

    app: the app's key.
    picture: the key under which its picture is kept.
    drawn_at: Unix time in seconds.
    """

    app: str
    number: int
    drawing: int
    scene: str = field(repr=False)
    picture: str
    drawn_at: float


class CodeKey(NamedTuple):
    """Which code: one drawing of a number.  app: the app's key."""

    app: str
    number: int
    drawing: int


class CodeCounts(NamedTuple):
    """How many codes an app has.

    app: the app's key.
    reserved: are being drawn, or were begun and left.  leftover: retired, with pictures
    that are still there.  oldest: Unix time at which the oldest ready one was drawn.
    """

    app: str
    ready: int
    reserved: int
    retired: int
    leftover: int
    oldest: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedCode:
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


class LeasedCode(NamedTuple):
    """A code that is one login's until it is given back, or until its time is over.

    generation: which lease of the number this is; no other of it has the same, ever.
    uses: how often this drawing has been leased, this time included.  It may be less where
        the state has been lost meanwhile.
    """

    code: OfferedCode
    generation: int
    uses: int


class PoolLevel(NamedTuple):
    """How many numbers of a pool are free, on a screen, and resting."""

    free: int
    leased: int
    resting: int

    @property
    def total(self) -> int:
        return sum(self)
