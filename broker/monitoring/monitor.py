"""Compares this instance with its state and with the other instances, every `INTERVAL`.

Each finding has a metric and is logged as a warning, once until it ends:

    the state's clock differs from this host's     sites may refuse tokens by their time
    the state may evict keys                       logins and sessions can be lost
    another instance has other token keys          sites refuse about half of the tokens
    another instance has other seal keys           its secrets cannot be decrypted here
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from broker.errors import Unavailable
from broker.infrastructure.crypto.sealing import SecretBox
from broker.infrastructure.crypto.secret_file import KeyFileError
from broker.infrastructure.observability.outage import OutageLog
from broker.monitoring.metrics import CLOCK_OFFSET, KEYS_DIFFER, STATE_EVICTS
from broker.monitoring.ports import InstanceFacts, MonitoredState, Profile

INTERVAL = 2.0

EVICTION_INTERVAL = 30.0

CLOCK_OFFSET_MAX = 2.0
"""Seconds: longer than the round trip of a probe."""


class Monitor:
    """Publishes the keys of this instance, and checks clocks, eviction policy and keys.

    token_key_ids: returns the ids of the published token keys.
    signing_key_ids: returns the ids of those that sign, one for each algorithm.
    secret_box: the seal keys; loaded again when another instance has a newer key.
    instance: this process's name.
    observe: receives the profiles of the other instances that run.
    facts: returns the facts about this instance for operators.
    host_clock: this host's Unix time in seconds.
    """

    def __init__(
        self,
        *,
        state: MonitoredState,
        token_key_ids: Callable[[], tuple[str, ...]],
        signing_key_ids: Callable[[], tuple[str, ...]],
        secret_box: SecretBox,
        instance: str,
        observe: Callable[[Mapping[str, Profile]], None],
        facts: Callable[[], InstanceFacts],
        host_clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._token_key_ids = token_key_ids
        self._signing_key_ids = signing_key_ids
        self._secret_box = secret_box
        self._instance = instance
        self._observe = observe
        self._facts = facts
        self._host_clock = host_clock
        self._started_at = 0.0
        self._eviction_checked_at = -EVICTION_INTERVAL
        self._older_instances: list[str] = []
        self._clock_log = OutageLog("clock differs from redis", "clock agrees with redis")
        self._eviction_log = OutageLog("redis may evict keys", "redis evicts no keys")
        self._token_key_log = OutageLog("token keys differ", "token keys agree")
        self._seal_key_log = OutageLog("seal keys differ", "seal keys agree")

    async def open(self) -> None:
        """Check once, so that an instance with the wrong keys never becomes ready."""
        self._started_at = self._state.clock()
        await self.check()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            await self.check()

    async def close(self) -> None:
        with suppress(Unavailable):  # the profile expires
            await self._state.instances.leave(self._instance)

    def unready_reason(self) -> str | None:
        """Return why this instance should get no browsers, or None.

        Sites know the keys of older instances, so a newer instance with other keys waits.
        """
        if not self._older_instances:
            return None
        return f"token keys differ from those of {', '.join(self._older_instances)}"

    async def check(self) -> None:
        """Check everything once. Does nothing that needs the state while it is unavailable."""
        self._compare_clocks()
        with suppress(Unavailable):  # the state logs its outage
            await self._check_eviction()
            await self._compare_keys()

    def _compare_clocks(self) -> None:
        offset = self._state.clock() - self._host_clock()
        CLOCK_OFFSET.set(offset)
        if abs(offset) > CLOCK_OFFSET_MAX:
            relation = "ahead of" if offset > 0 else "behind"
            self._clock_log.failed(f"redis is {abs(offset):.1f} s {relation} this host")
        else:
            self._clock_log.recovered()

    async def _check_eviction(self) -> None:
        now = time.monotonic()
        if now - self._eviction_checked_at < EVICTION_INTERVAL:
            return
        evicts = await self._state.evicts()
        self._eviction_checked_at = now
        STATE_EVICTS.set(evicts)
        if evicts:
            self._eviction_log.failed("set maxmemory-policy to noeviction")
        else:
            self._eviction_log.recovered()

    async def _compare_keys(self) -> None:
        others = await self._state.instances.publish(self._instance, self.profile())
        self._observe(others)
        mine = self.profile()
        if not all(_knows(mine.seal_keys, other.seal_keys[:1]) for other in others.values()):
            with suppress(KeyFileError):  # the file may have a newer key
                self._secret_box.load()
            mine = self.profile()
        token = [name for name in others if not _knows(mine.token_keys, _signing(others[name]))]
        seal = [name for name in others if not _knows(mine.seal_keys, others[name].seal_keys[:1])]
        self._older_instances = [name for name in sorted(token) if self._is_older(others, name)]
        _report("token", token, self._token_key_log)
        _report("seal", seal, self._seal_key_log)

    def _is_older(self, others: Mapping[str, Profile], name: str) -> bool:
        return (others[name].started_at, name) < (self._started_at, self._instance)

    def profile(self) -> Profile:
        return Profile(
            started_at=self._started_at,
            token_keys=self._token_key_ids(),
            seal_keys=self._secret_box.ids,
            signing_keys=self._signing_key_ids(),
            facts=self._facts(),
        )


def _signing(profile: Profile) -> tuple[str, ...]:
    return profile.signing_keys or profile.token_keys[:1]


def _knows(mine: Sequence[str], theirs: Sequence[str]) -> bool:
    """Return whether the keys that the other instance uses are known here.

    After a rotation they are known, even if only one instance has read the file: the next key
    is published before it signs.
    """
    return set(theirs) <= set(mine)


def _report(keys: str, names: list[str], outage_log: OutageLog) -> None:
    KEYS_DIFFER.labels(keys).set(bool(names))
    if names:
        outage_log.failed(f"instance {min(names)} has other {keys} keys")
    else:
        outage_log.recovered()
