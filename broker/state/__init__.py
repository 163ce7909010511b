"""Short-lived data: logins, sessions, grants, chats, code leases and leader leases.

The state is authoritative. A change is stored here before the bus publishes a notice of it.
Each backend is a package; `STATES` maps URL schemes to them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from broker.chat.ports import ChatStores
    from broker.infrastructure.clock import Clock
    from broker.infrastructure.coordination import LeaderLeases, RetryQueue
    from broker.login.ports import Images, LoginStore, UserCodes
    from broker.monitoring.ports import Instances
    from broker.oidc.ports import AuthorizationRequests, Grants, SignIns
    from broker.pool.ports import CodeLeases
    from broker.sessions.ports import SessionStore
    from broker.tunnels.ports import TunnelStores


@dataclass(frozen=True, slots=True)
class StateBackend:
    """The stores of one backend.

    clock: Unix time in seconds, shared by all instances that use this state.
    open: connects. If that fails, it retries in the background.
    unavailable_reason: why no request can succeed now; None if the state is available.
    unready_reason: why logins cannot work now; None if they can. It contains no host names.
    refusal: the error code with which the state refuses writes; None while it accepts them.
    evicts: returns whether the state may evict entries to free memory. Raises Unavailable.
    """

    logins: LoginStore
    sessions: SessionStore
    code_leases: CodeLeases
    leader_leases: LeaderLeases
    images: Images
    user_codes: UserCodes
    clock: Clock
    open: Callable[[], Awaitable[None]]
    unavailable_reason: Callable[[], str | None]
    unready_reason: Callable[[], str | None]
    close: Callable[[], Awaitable[None]]
    refusal: Callable[[], str | None]
    evicts: Callable[[], Awaitable[bool]]
    instances: Instances
    authorization_requests: AuthorizationRequests
    sign_ins: SignIns
    grants: Grants
    retries: RetryQueue
    tunnels: TunnelStores
    chat: ChatStores


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
    """Return the state at `url`, not connected yet.

    clock: replaces the clock of the state.
    replicas: how many replicas must hold a login before `LoginStore.secure` returns.
    publishes: whether the bus has the same address, so that one round trip can store a
    change and publish its notice.
    Raises ValueError for an unknown scheme or an invalid URL.
    """
    scheme = urlsplit(url).scheme
    if scheme not in STATES:
        raise ValueError(f"unknown state {scheme!r}: use one of {', '.join(sorted(STATES))}")
    state: StateBackend = import_module(STATES[scheme]).open_state(
        url, clock, replicas=replicas, publishes=publishes
    )
    return state
