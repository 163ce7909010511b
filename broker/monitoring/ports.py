"""The profiles that instances publish, and the part of the state that the monitor checks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from broker.infrastructure.clock import Clock

INSTANCE_TTL = 6.0
"""Seconds for which an instance counts as running after it last published its profile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceFacts:
    """Facts about an instance, for operators.

    unready: why it should get no browsers; empty if it should.
    counts, notes: see `InstanceReport`.
    """

    version: str = ""
    roles: tuple[str, ...] = ()
    unready: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """An instance's start time, keys and facts, published for other instances.

    started_at: Unix time in seconds.
    token_keys: the ids of its key set; the first one signs access tokens.
    seal_keys: the ids of its seal keys; the first one encrypts.
    signing_keys: the ids of the token keys that sign, one for each algorithm; empty in the
        profile of an older version, where the first of `token_keys` signs.
    """

    started_at: float
    token_keys: tuple[str, ...]
    seal_keys: tuple[str, ...]
    signing_keys: tuple[str, ...] = ()
    facts: InstanceFacts = field(default_factory=InstanceFacts)


class Instances(Protocol):
    """The profiles of the instances that share this state. Methods raise Unavailable."""

    async def publish(self, instance: str, profile: Profile) -> Mapping[str, Profile]:
        """Publish `profile` for `INSTANCE_TTL` and return those of the other instances."""

    async def leave(self, instance: str) -> None:
        """Remove the instance's profile."""


class MonitoredState(Protocol):
    """The state, as far as the monitor checks it.

    clock: the time that all instances share.
    evicts: whether the state may evict entries to make room; raises Unavailable.
    unavailable_reason: why no request can succeed now; None if the state is available.
    """

    @property
    def clock(self) -> Clock: ...
    @property
    def evicts(self) -> Callable[[], Awaitable[bool]]: ...
    @property
    def unavailable_reason(self) -> Callable[[], str | None]: ...
    @property
    def instances(self) -> Instances: ...
