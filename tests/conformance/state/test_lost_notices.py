"""Tests of the lobby over each state: a change whose notice is lost is found in the next round."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import pytest

from broker.bus.memory import MemoryBus
from broker.errors import Unavailable
from broker.identity.errors import UnregisteredUser
from broker.infrastructure.coordination import Notice
from broker.infrastructure.sharding import SHARDS
from broker.login.lobby import Lobby
from broker.login.model import Login
from tests.support.builders import ALICE, FIREFOX, Clock, FixedDirectory, LoginMethods


class Waiting:
    """A lobby with one browser, which receives no notices. pushed: the events of the browser."""

    def __init__(self, lobby: Lobby, logins: LoginMethods, login: Login) -> None:
        self.lobby = lobby
        self.logins = logins
        self.login = login
        self.pushed: list[str] = []
        lobby._push = self._push
        lobby.wait("tab", login)

    async def turn(self) -> None:
        """Read what has changed in all shards."""
        await self.lobby._reconcile(await self.lobby._changed_in(SHARDS, is_full=False))

    async def _push(self, sid: str, app: str, notice: Notice) -> None:
        self.pushed.append(notice.event)


MakeWaiting = Callable[..., Awaitable[Waiting]]


@pytest.fixture
def make_waiting(make_login_service: Callable[..., LoginMethods], clock: Clock) -> MakeWaiting:
    async def make(**options: object) -> Waiting:
        logins = make_login_service(bus=MemoryBus(), **options)
        lobby = Lobby(reader=logins.reader, clock=clock, instance="one")
        begun = await logins.begin("shop", FIREFOX, has_socket=True)
        waiting = Waiting(lobby, logins, begun.login)
        await waiting.turn()
        return waiting

    return make


async def test_each_change_is_found_once(make_waiting: MakeWaiting) -> None:
    waiting = await make_waiting()

    await waiting.logins.scan(waiting.login.scene, ALICE)
    await waiting.turn()
    await waiting.logins.confirm(waiting.login.id, ALICE)
    await waiting.turn()
    await waiting.turn()

    assert waiting.pushed == ["login-scanned", "login-confirmed"]


async def test_unregistered_user_is_found(make_waiting: MakeWaiting) -> None:
    waiting = await make_waiting(directory=FixedDirectory())
    await waiting.logins.scan(waiting.login.scene, ALICE)
    await waiting.turn()

    with pytest.raises(UnregisteredUser):
        await waiting.logins.confirm(waiting.login.id, ALICE)
    await waiting.turn()

    assert waiting.pushed == ["login-scanned", "login-unregistered"]


async def test_login_resumed_at_another_instance_is_removed(
    make_waiting: MakeWaiting, make_login_service: Callable[..., LoginMethods], clock: Clock
) -> None:
    waiting = await make_waiting()
    secret = (begun := await waiting.logins.begin("shop", FIREFOX, has_socket=True)).secret
    waiting.lobby.wait("other", begun.login)
    other = make_login_service(bus=MemoryBus(), instance="two")

    await other.resume(begun.login.id, secret, app="shop")
    await waiting.turn()

    assert len(waiting.lobby) == 1


async def test_browser_notified_during_a_read_is_read_again(
    make_waiting: MakeWaiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan's notice arrives while the lobby reads. The confirm's notice is lost."""
    waiting = await make_waiting()
    await waiting.logins.scan(waiting.login.scene, ALICE)
    await waiting.logins.confirm(waiting.login.id, ALICE)
    changed = waiting.logins.reader.get_changed

    async def notified_meanwhile(known: Mapping[str, int]) -> object:
        found = await changed(known)
        monkeypatch.setattr(waiting.logins.reader, "get_changed", changed)
        await waiting.lobby._deliver(Notice("login-scanned", waiting.login.id))
        return found

    monkeypatch.setattr(waiting.logins.reader, "get_changed", notified_meanwhile)
    await waiting.turn()
    await waiting.turn()

    assert waiting.pushed == ["login-scanned", "login-confirmed"]


async def test_change_taken_before_a_failed_read_is_found(
    make_waiting: MakeWaiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = await make_waiting()
    await waiting.logins.scan(waiting.login.scene, ALICE)

    async def down(known: Mapping[str, int]) -> object:
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(waiting.logins.reader, "get_changed", down)
        await waiting.turn()
    assert waiting.pushed == []
    await waiting.turn()

    assert waiting.pushed == ["login-scanned"]
    assert waiting.lobby._unread == set()


async def test_browser_that_left_is_not_read(
    make_waiting: MakeWaiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = await make_waiting()

    async def down(known: Mapping[str, int]) -> object:
        raise Unavailable

    monkeypatch.setattr(waiting.logins.reader, "get_changed", down)
    await waiting.lobby._reconcile_all()
    waiting.lobby.leave("tab")

    assert waiting.lobby._unread == set()
