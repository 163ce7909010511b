"""Instance profiles in memory."""

from __future__ import annotations

from collections.abc import Mapping

from broker.infrastructure.clock import Clock
from broker.monitoring.ports import INSTANCE_TTL, Profile


class MemoryInstances:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._profiles: dict[str, tuple[float, Profile]] = {}

    async def publish(self, instance: str, profile: Profile) -> Mapping[str, Profile]:
        now = self._clock()
        self._profiles[instance] = (now + INSTANCE_TTL, profile)
        self._profiles = {
            name: (end, published)
            for name, (end, published) in self._profiles.items()
            if end >= now
        }
        return {name: other for name, (_, other) in self._profiles.items() if name != instance}

    async def leave(self, instance: str) -> None:
        self._profiles.pop(instance, None)
