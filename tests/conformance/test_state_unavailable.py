"""Stores of a state that cannot be reached raise Unavailable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest

from broker.errors import Unavailable
from broker.monitoring.ports import Profile
from broker.pool.model import OfferedCode
from broker.sessions.model import Session, new_session_id
from broker.state import StateBackend, open_state
from tests.support.builders import ALICE
from tests.support.environment import free_port

SESSION = Session(
    id=new_session_id(ALICE), skey_hash=b"hash", phone=ALICE, expires_at=2e9, latest_end=2e9
)
CODE = OfferedCode(number=0, drawing=0, scene="scene", picture="picture.png")
PROFILE = Profile(started_at=1.0, token_keys=("key",), seal_keys=())

CALLS: Mapping[str, Callable[[StateBackend], Awaitable[object]]] = {
    "session put": lambda state: state.sessions.put(SESSION),
    "session get": lambda state: state.sessions.get(SESSION.id),
    "session extend": lambda state: state.sessions.extend(SESSION, 2e9),
    "session end": lambda state: state.sessions.end(ALICE),
    "code lease": lambda state: state.code_leases.lease("shop", until=2e9, cooldown=0),
    "code return": lambda state: state.code_leases.return_code("shop", 0, 1, cooldown=0),
    "code offer": lambda state: state.code_leases.offer("shop", [CODE]),
    "code withdraw": lambda state: state.code_leases.withdraw("shop", {0: 0}),
    "pool level": lambda state: state.code_leases.level("shop"),
    "pool deletion": lambda state: state.code_leases.forget("shop"),
    "leader lease": lambda state: state.leader_leases.acquire("pool:shop", "one", seconds=1),
    "leader release": lambda state: state.leader_leases.release("pool:shop", "one"),
    "instance publish": lambda state: state.instances.publish("one", PROFILE),
    "instance leave": lambda state: state.instances.leave("one"),
    "eviction check": lambda state: state.evicts(),
}


@pytest.fixture
async def unreachable_state(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StateBackend]:
    monkeypatch.setattr("broker.infrastructure.redis.reconnector.CONNECTION_WAIT_TIMEOUT", 0.0)
    state = open_state(f"redis://127.0.0.1:{free_port()}")
    await state.open()
    yield state
    await state.close()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_unreachable_state_raises_unavailable(
    unreachable_state: StateBackend, call: Callable[[StateBackend], Awaitable[object]]
) -> None:
    with pytest.raises(Unavailable):
        await call(unreachable_state)
