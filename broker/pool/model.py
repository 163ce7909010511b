"""Pool codes and their leases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

SCENE_BYTES = 24
"""192 random bits are 32 characters, the most that WeChat allows in a scene."""

DEFAULT_CODES_PER_MINUTE = 3000
"""WeChat allows a mini program 5 000 codes per minute, including codes that are drawn live."""


class CodeLease(NamedTuple):
    """The lease of a pool code by one login.

    number: the code's place in the pool.
    generation: which lease of the number this is.
    picture: the key of the code's picture.
    """

    number: int
    generation: int
    picture: str


class PooledCode(NamedTuple):
    """A leased code.

    url: where browsers fetch the picture.
    """

    scene: str
    url: str
    lease: CodeLease


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeReservation:
    """The right to draw the code of a number.

    app: the app's key.
    drawing: how many codes the number has had before.
    until: Unix time in seconds; afterwards another caller may take the number over.
    """

    app: str
    number: int
    drawing: int
    scene: str = field(repr=False)
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRecord:
    """A code as the records store it.

    app: the app's key.
    picture: the key of its picture.
    drawn_at: Unix time in seconds.
    """

    app: str
    number: int
    drawing: int
    scene: str = field(repr=False)
    picture: str
    drawn_at: float


class CodeKey(NamedTuple):
    """Identifies a code: one drawing of a number.

    app: the app's key.
    """

    app: str
    number: int
    drawing: int


class CodeCounts(NamedTuple):
    """The number of codes of an app, by state.

    app: the app's key.
    reserved: codes that are being drawn, or whose drawing was interrupted.
    leftover: retired codes that still have a picture.
    oldest: Unix time at which the oldest ready code was drawn.
    """

    app: str
    ready: int
    reserved: int
    retired: int
    leftover: int
    oldest: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedCode:
    """A code that logins can lease.

    number: its place in the app's pool, from 0. The lowest free number is leased first.
    drawing: how many codes the number has had before. Each drawing has another scene.
    scene: the content of the picture. Everyone who sees the screen can read it.
    picture: the key of its picture.
    """

    number: int
    drawing: int
    scene: str
    picture: str


class LeasedCode(NamedTuple):
    """A code that belongs to one login until it is returned or the lease expires.

    generation: which lease of the number this is. No two leases of a number have the same.
    uses: how often this drawing has been leased, including this time. It is lower than
        that after the state was lost.
    """

    code: OfferedCode
    generation: int
    uses: int


class PoolReport(NamedTuple):
    """The knowledge of one instance about a pool.

    health: `healthy`, `low` or `empty`.  lease_rate: leases per second.
    target: the number of codes that the pool should have.
    refilled_at: Unix time of the last refill by this instance; None if it has made none.
    error: why its last refill failed; empty if it did not.
    """

    health: str
    lease_rate: float
    target: int
    refilled_at: float | None
    error: str


class PoolLevel(NamedTuple):
    """The number of codes in a pool, by state. `resting` codes are in their cooldown."""

    free: int
    leased: int
    resting: int

    @property
    def total(self) -> int:
        return sum(self)
