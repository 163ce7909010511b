"""What lives minutes, or days: logins, the phones' sessions, leases of codes, duties.

State is truth.  A change is stored here first; the bus only says "look".
Each backend is a file or a folder; `STATES` is the table of them, by URL scheme.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from urllib.parse import urlsplit

from broker.infrastructure.clock import Clock
from broker.infrastructure.coordination import LeaderLeases
from broker.login.ports import Images, LoginStore
from broker.monitoring.ports import Instances
from broker.pool.ports import CodeLeases
from broker.sessions.ports import SessionStore


@dataclass(frozen=True, slots=True)
class StateBackend:
    """A backend: one store by noun.

    clock: the time that all instances over this state share.
    open: connects; where that fails, goes on trying in the background.
    trouble: why nothing can be asked just now; None when it can.
    refusal: the error word by which the state refuses writes; None while it accepts them.
    evicts: whether the state may evict entries to make room; raises Unavailable.
    """

    logins: LoginStore
    sessions: SessionStore
    code_leases: CodeLeases
    leader_leases: LeaderLeases
    images: Images
    clock: Clock
    open: Callable[[], Awaitable[None]]
    unavailable_reason: Callable[[], str | None]
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
    url: str, clock: Clock | None = None, *, replicas: int = 0, publishes: bool = False
) -> StateBackend:
    """The state that `url` names, not yet connected.

    clock: replaces the state's own.  replicas: how many must hold a login for it
    to be secure, where the state has replicas.  publishes: the bus is at the same
    address, so that one trip may store a change and tell of it.
    Raises ValueError for a scheme that is not in `STATES`, or a URL that names nothing.
    """
    scheme = urlsplit(url).scheme
    if scheme not in STATES:
        raise ValueError(f"unknown state {scheme!r}: want one of {', '.join(sorted(STATES))}")
    store: StateBackend = import_module(STATES[scheme]).open_state(
        url, clock, replicas=replicas, publishes=publishes
    )
    return store
