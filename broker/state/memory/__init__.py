"""State in the memory of one process. It is lost when the process ends."""

from __future__ import annotations

import time

from broker.infrastructure.clock import Clock
from broker.state import StateBackend
from broker.state.memory.authorization_requests import MemoryAuthorizationRequests
from broker.state.memory.chat_people import open_chat
from broker.state.memory.code_leases import MemoryCodeLeases
from broker.state.memory.grants import MemoryGrants
from broker.state.memory.instances import MemoryInstances
from broker.state.memory.leader_leases import MemoryLeaderLeases
from broker.state.memory.login_images import MemoryImages
from broker.state.memory.logins import MemoryLoginStore
from broker.state.memory.retry_queue import MemoryRetryQueue
from broker.state.memory.sessions import MemorySessionStore
from broker.state.memory.sign_ins import MemorySignIns
from broker.state.memory.tunnels import open_tunnels
from broker.state.memory.user_codes import MemoryUserCodes


def open_state(url: str, clock: Clock | None, *, replicas: int, publishes: bool) -> StateBackend:
    clock = clock or time.time
    sign_ins = MemorySignIns(clock)
    return StateBackend(
        MemoryLoginStore(clock),
        MemorySessionStore(clock),
        MemoryCodeLeases(clock),
        MemoryLeaderLeases(clock),
        MemoryImages(clock),
        MemoryUserCodes(clock),
        clock=clock,
        open=_do_nothing,
        unavailable_reason=lambda: None,
        unready_reason=lambda: None,
        close=_do_nothing,
        refusal=lambda: None,
        evicts=_never,
        instances=MemoryInstances(clock),
        authorization_requests=MemoryAuthorizationRequests(clock),
        sign_ins=sign_ins,
        grants=MemoryGrants(clock, sign_ins),
        retries=MemoryRetryQueue(clock),
        tunnels=open_tunnels(clock),
        chat=open_chat(clock),
    )


async def _never() -> bool:
    return False


async def _do_nothing() -> None:
    """There is no connection to open or close."""
