"""Limits and dependencies that the background work on pools shares."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from broker.identity.registry import ProviderRegistry
from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import LeaderLeases
from broker.infrastructure.observability.feed import NO_FEED, Feed
from broker.infrastructure.observability.instance_report import InstanceReport
from broker.pool.ports import CodeLeases, CodeStore, PictureStore

CLOCK_SKEW_OVERLAP = 60.0
"""Seconds by which two queries for changes overlap: the clocks of commands differ."""

RETRY_DELAYS = (2.0, 5.0, 10.0, 20.0, 40.0, 60.0)
"""Seconds before a failed job is retried, by the number of failures. The last one is used for
permanent failures. The first one is also the delay before a single code is retried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """The limits of every pool.

    login_lifetime: seconds, for apps without their own value.
    retention: seconds for which a login is stored after its end.
    cooldown: seconds between two leases of a code.
    min_size, max_size: number of codes.
    max_age: seconds after which a code is replaced; 0: never.
    per_minute: codes drawn per minute.
    """

    login_lifetime: float
    retention: float
    cooldown: float
    min_size: int
    max_size: int
    max_age: float
    per_minute: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDependencies:
    """The services and limits that the maintenance of pools uses.

    clock: the time of the state, for stamps that instances share.
    timer: seconds from any start, for durations in this process.
    instance: this process's name, the holder of leader leases.
    """

    providers: ProviderRegistry
    codes: CodeStore
    pictures: PictureStore
    leases: CodeLeases
    leader_leases: LeaderLeases
    clock: Clock
    instance: str
    limits: PoolLimits
    retry_delays: Sequence[float] = RETRY_DELAYS
    timer: Callable[[], float] = time.monotonic
    feed: Feed = NO_FEED
    report: InstanceReport = field(default_factory=InstanceReport)
