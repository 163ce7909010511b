"""Compares this instance with its state and with the other instances, every `INTERVAL`.

Each finding is logged once as a warning and has a metric:

    the state's clock differs from this host's     sites may refuse tokens by their time
    the state may evict keys                       logins and sessions can be lost
    another instance has other token keys          sites refuse about half of the tokens
    another instance has other seal keys           its secrets cannot be read here
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from broker.errors import Unavailable
from broker.infrastructure.crypto.sealing import SecretBox
from broker.infrastructure.crypto.secret_file import KeyFileError
from broker.infrastructure.observability.metrics import Gauge
from broker.infrastructure.observability.outage import OutageLog
from broker.monitoring.ports import Profile
from broker.state import StateBackend
from broker.tokens.issuer import TokenIssuer

INTERVAL = 2.0

EVICTION_INTERVAL = 30.0

CLOCK_OFFSET_MAX = 2.0
"""Seconds: longer than the round trip of a probe."""


class Monitor:
    """instance: this process's name.  host_clock: this host's Unix time in seconds."""

    def __init__(
        self,
        *,
        store: StateBackend,
        issuer: TokenIssuer,
        seal_keys: SecretBox,
        instance: str,
        host_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._seal_keys = seal_keys
        self._instance = instance
        self._host_clock = host_clock
        self._started_at = 0.0
        self._eviction_checked_at = -EVICTION_INTERVAL
        self._older: list[str] = []
        self._clocks = OutageLog("clock differs from redis", "clock agrees with redis")
        self._eviction = OutageLog("redis may evict keys", "redis evicts no keys")
        self._tokens = OutageLog("token keys differ", "token keys agree")
        self._seals = OutageLog("seal keys differ", "seal keys agree")

    async def open(self) -> None:
        """Compare once, so that an instance with the wrong keys never becomes ready."""
        self._started_at = self._store.clock()
        await self._look()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            await self._look()

    async def close(self) -> None:
        with suppress(Unavailable):  # the profile expires
            await self._store.instances.leave(self._instance)

    def trouble(self) -> str | None:
        """Why this instance should get no browsers: sites know the keys of older instances."""
        if not self._older:
            return None
        return f"token keys differ from those of {', '.join(self._older)}"

    async def _look(self) -> None:
        self._compare_clocks()
        with suppress(Unavailable):  # the state reports it
            await self._check_eviction()
            await self._compare_keys()

    def _compare_clocks(self) -> None:
        offset = self._store.clock() - self._host_clock()
        CLOCK_OFFSET.set(offset)
        if abs(offset) > CLOCK_OFFSET_MAX:
            relation = "ahead of" if offset > 0 else "behind"
            self._clocks.failed(f"redis is {abs(offset):.1f} s {relation} this host")
        else:
            self._clocks.recovered()

    async def _check_eviction(self) -> None:
        now = time.monotonic()
        if now - self._eviction_checked_at < EVICTION_INTERVAL:
            return
        evicts = await self._store.evicts()
        self._eviction_checked_at = now
        STATE_EVICTS.set(evicts)
        if evicts:
            self._eviction.failed("set maxmemory-policy to noeviction")
        else:
            self._eviction.recovered()

    async def _compare_keys(self) -> None:
        others = await self._store.instances.publish(self._instance, self._profile())
        mine = self._profile()
        if not all(_knows(mine.seal_keys, one.seal_keys) for one in others.values()):
            with suppress(KeyFileError):  # the file may have a newer key by now
                self._seal_keys.load()
            mine = self._profile()
        tokens = [
            name for name, one in others.items() if not _knows(mine.token_keys, one.token_keys)
        ]
        seals = [name for name, one in others.items() if not _knows(mine.seal_keys, one.seal_keys)]
        self._older = [name for name in sorted(tokens) if self._is_older(others, name)]
        _report("token", tokens, self._tokens)
        _report("seal", seals, self._seals)

    def _is_older(self, others: Mapping[str, Profile], name: str) -> bool:
        return (others[name].started_at, name) < (self._started_at, self._instance)

    def _profile(self) -> Profile:
        return Profile(
            started_at=self._started_at,
            token_keys=tuple(key["kid"] for key in self._issuer.key_set()["keys"]),
            seal_keys=self._seal_keys.ids,
        )


def _knows(mine: Sequence[str], theirs: Sequence[str]) -> bool:
    """Whether the key that the other instance uses is known here.

    After a rotation it is, even if only one of the two has read the file: the next key is
    published before it signs.
    """
    return not theirs or theirs[0] in mine


def _report(keys: str, names: list[str], outage: OutageLog) -> None:
    KEYS_DIFFER.labels(keys).set(bool(names))
    if names:
        outage.failed(f"instance {min(names)} has other {keys} keys")
    else:
        outage.recovered()


STATE_EVICTS = Gauge("scanlogin_state_evicts", "1 while Redis may evict keys, else 0")

CLOCK_OFFSET = Gauge("scanlogin_clock_offset_seconds", "Redis' clock minus this host's")

KEYS_DIFFER = Gauge(
    "scanlogin_keys_differ", "1 while another instance has other keys, else 0", ["keys"]
)
