"""Decides which instances have ended, from the profiles that the monitor reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from broker.infrastructure.observability.feed import NO_FEED, Feed
from broker.monitoring.ports import INSTANCE_TTL, Profile

GONE_AFTER = 30.0
"""Seconds after its last profile at which an instance counts as ended."""

UNSEEN_MAX = GONE_AFTER - INSTANCE_TTL
"""A profile is seen until it expires."""

GAP_MAX = 10.0
"""Seconds between two observations above which the earlier ones do not count: this process was
paused, or the state was unavailable and has lost every profile."""


class SeenProfile(NamedTuple):
    """The last profile of another instance. age: seconds since it was read."""

    profile: Profile
    age: float


class InstanceWatch:
    """The instances that share the state, as this one has seen them. An `InstanceRegistry`.

    instance: this process's name.
    clock: monotonic time in seconds.
    """

    def __init__(
        self,
        instance: str,
        clock: Callable[[], float] = time.monotonic,
        feed: Feed = NO_FEED,
    ) -> None:
        self._instance = instance
        self._clock = clock
        self._feed = feed
        self._seen_at: dict[str, float] = {}
        self._profiles: dict[str, Profile] = {}
        self._began_at = self._last_at = clock()

    def observe(self, others: Mapping[str, Profile]) -> None:
        """Record that these other instances run now."""
        now = self._clock()
        if now - self._last_at > GAP_MAX:
            self._began_at = now
        self._last_at = now
        former = self._seen_at
        seen = {**former, **dict.fromkeys(others, now)}
        self._seen_at = {name: at for name, at in seen.items() if now - at < UNSEEN_MAX}
        known = {**self._profiles, **others}
        self._profiles = {name: known[name] for name in self._seen_at}
        self._announce(former)

    @property
    def others(self) -> Mapping[str, SeenProfile]:
        """The other instances that have run in the last `UNSEEN_MAX` seconds."""
        now = self._clock()
        return {
            name: SeenProfile(self._profiles[name], now - at) for name, at in self._seen_at.items()
        }

    def names(self) -> Collection[str]:
        """Return the names of `others`."""
        return self._seen_at.keys()

    def notes(self, name: str) -> Collection[str]:
        """Return the notes with this name, of all other instances."""
        found = (profile.facts.notes.get(name) for profile in self._profiles.values())
        return [note for note in found if note]

    def _announce(self, former: Collection[str]) -> None:
        for name in self._seen_at.keys() - {*former}:
            self._feed.publish("instance", "started", id=name)
        for name in {*former} - self._seen_at.keys():
            self._feed.publish("instance", "ended", id=name)

    def ended(self, instances: Collection[str]) -> Collection[str]:
        now = self._clock()
        if now - self._last_at > GAP_MAX or now - self._began_at < UNSEEN_MAX:
            return ()
        return {*instances} - {*self._seen_at, self._instance}
