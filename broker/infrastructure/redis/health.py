"""Whether a server answers, accepts commands and writes, and has enough replicas."""

from __future__ import annotations

import time
from typing import NamedTuple

from broker.errors import Unavailable
from broker.infrastructure.background import BackgroundTask
from broker.infrastructure.observability.metrics import Gauge
from broker.infrastructure.observability.outage import OutageLog
from broker.infrastructure.redis.connection import REPLY_TIMEOUT, ErrorReply
from broker.infrastructure.redis.memory_policy import MemoryPolicy
from broker.infrastructure.redis.scripts import CommandPart

PING_INTERVAL = 1.0
"""Seconds between two probes of the server."""

DOWNTIME_MIN = PING_INTERVAL + REPLY_TIMEOUT
"""Seconds without an answered probe after which the server counts as down."""

PROBE_MAX_AGE = 2 * (PING_INTERVAL + REPLY_TIMEOUT)
"""Seconds after which the last answered probe expires."""

WAIT_MS = 1_000
"""Milliseconds that replicas get to receive a change."""

REPLICATED_PROBE_TTL_MS = 60_000
"""Lifetime of the probe's key. The key is needed only while replicas receive it."""

SHORTAGES_MIN = 3
"""Probes in sequence without enough replicas after which an instance is not ready any longer. All
instances probe every second or two, so one slow moment of a replica must not take all of them out
of service."""

REFUSAL_QUIET_TIME = 5.0
"""Seconds without a refusal after which commands count as accepted again."""

WRONG_SERVER_REPLIES = ("READONLY", "LOADING", "MASTERDOWN")
"""Error codes of a server that is not the master or not ready: the broker reconnects."""

UNAVAILABLE_REPLIES = (
    *WRONG_SERVER_REPLIES,
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MISCONF",
    "NOREPLICAS",
    "OOM",
    "BUSY",
    "NOPERM",
)
"""Error codes of a server that did not run the command. The caller gets `Unavailable`."""


class Refusals:
    """Commands and writes that a reachable server refuses.

    One outage is logged once for all commands.

    connection: its name in log events.
    writes_refused_by: the error code of the last write probe, such as OOM; None if it succeeded.
    """

    def __init__(self, connection: str) -> None:
        self._outage = OutageLog(
            "redis refuses commands", "redis accepts commands again", connection=connection
        )
        self._refused_at = -REFUSAL_QUIET_TIME
        self.writes_refused_by: str | None = None

    def to_exception(self, error: ErrorReply) -> Exception:
        """Return Unavailable, or `error` if it is a fault of the broker."""
        if error.code not in UNAVAILABLE_REPLIES:
            return error
        self._record(error)
        return Unavailable()

    def refused_memory(self, error: ErrorReply) -> list[MemoryPolicy]:
        """Return the memory policies after a refused INFO: none if the server has no INFO or
        the user may not run it.

        Raises Unavailable if the server cannot answer at present.
        """
        may_answer_later = error.code in UNAVAILABLE_REPLIES and error.code != "NOPERM"
        if not may_answer_later:
            return []
        raise self.to_exception(error) from None

    def record_probe(self, refusal: ErrorReply | None) -> None:
        """Record the outcome of a write probe; None if it succeeded."""
        self.writes_refused_by = None if refusal is None else refusal.code
        STATE_REFUSES.set(refusal is not None)
        if refusal is not None:
            self._record(refusal)
        elif time.monotonic() - self._refused_at >= REFUSAL_QUIET_TIME:
            self._outage.recovered()

    def unready_reason(self) -> str | None:
        code = self.writes_refused_by
        return None if code is None else f"the state refuses writes: {code}"

    def _record(self, error: ErrorReply) -> None:
        self._refused_at = time.monotonic()
        self._outage.failed(str(error))


class Probes:
    """When the server last answered a probe."""

    def __init__(self) -> None:
        self._answered_at = -PROBE_MAX_AGE

    def record_answer(self) -> None:
        self._answered_at = time.monotonic()

    def unavailable_reason(self) -> str | None:
        """Return a reason if the last answer is too old, else None."""
        if time.monotonic() - self._answered_at > PROBE_MAX_AGE:
            return "redis has not answered a recent probe"
        return None


class Replicas:
    """Whether enough replicas hold a write. One outage is logged once.

    required: how many must hold it; 0 for none.
    """

    def __init__(self, required: int) -> None:
        self.required = required
        self._shortages_min = 1
        self._outage = OutageLog("redis lacks replicas", "redis has enough replicas")

    def record(self, count: int) -> bool:
        """Record how many replicas hold the write of a probe. Return whether they suffice."""
        is_enough = count >= self.required
        STATE_LACKS_REPLICAS.set(not is_enough)
        if is_enough:
            self._shortages_min = SHORTAGES_MIN
            self._outage.recovered()
        else:
            self._outage.failed(f"{count} of {self.required} have the last write")
        return is_enough

    def unready_reason(self) -> str | None:
        if self._outage.failures < self._shortages_min:
            return None
        return f"the state lacks replicas: {self._outage.reason}"


class Health(NamedTuple):
    """The health of a server or a Cluster.

    task: sends the probes.
    """

    task: BackgroundTask
    outage: OutageLog
    probes: Probes
    refusals: Refusals
    replicas: Replicas

    def unavailable_reason(self) -> str | None:
        """Return why no command can succeed now, or None. It may contain host names."""
        return self.outage.reason or self._stall_reason()

    def unready_reason(self) -> str | None:
        """Return why logins cannot work now, or None. It contains no host names."""
        if self.outage.reason is not None:
            return "state unavailable"
        return (
            self._stall_reason() or self.refusals.unready_reason() or self.replicas.unready_reason()
        )

    def _stall_reason(self) -> str | None:
        return self.task.unready_reason() or self.probes.unavailable_reason()


def write_probe(key: str) -> tuple[CommandPart, ...]:
    """Return a command that Redis refuses if it refuses writes.

    It changes nothing, because the key does not exist.
    """
    return ("SET", key, "", "XX")


def replicated_probe() -> tuple[CommandPart, ...]:
    """Return a command that writes, so that replicas have something to receive."""
    return ("SET", "scanlogin:replica-probe", "", "PX", REPLICATED_PROBE_TTL_MS)


def redis_outage_log(connection: str) -> OutageLog:
    return OutageLog("redis unavailable", "redis recovered", connection=connection)


STATE_REFUSES = Gauge("scanlogin_state_refuses_writes", "1 while Redis refuses writes, else 0")

STATE_LACKS_REPLICAS = Gauge(
    "scanlogin_state_lacks_replicas", "1 while too few replicas hold the writes of Redis, else 0"
)
