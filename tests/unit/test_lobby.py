"""Tests of the lobby: each waiting browser receives each event once and in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from broker.bus.memory import MemoryBus
from broker.errors import Unavailable
from broker.identity.errors import UnregisteredUser
from broker.infrastructure.coordination import Bus, Notice
from broker.infrastructure.notices import NoticeDispatcher
from broker.infrastructure.sharding import SHARDS
from broker.login.lobby import (
    FULL_ROUND_INTERVAL,
    HEAP_SLACK,
    READ_BATCH,
    RECONCILE_SLICES,
    Lobby,
)
from broker.login.ports import ChangedLogins
from broker.login.service import NewLogin
from broker.state import StateBackend
from tests.support.builders import ALICE, FIREFOX, Clock, FixedDirectory, LoginMethods
from tests.support.loop_clock import LoopClock
from tests.support.waiting import eventually


class Pushes:
    """Records the events that browsers receive."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def __call__(self, sid: str, app: str, notice: Notice) -> None:
        assert app == "shop"
        if sid == "broken":
            raise OSError("closed")
        self.received.put_nowait((sid, notice.event))

    async def next(self) -> tuple[str, str]:
        async with asyncio.timeout(30):
            return await self.received.get()

    def all(self) -> set[tuple[str, str]]:
        """Return the events received since the last call."""
        return {self.received.get_nowait() for _ in range(self.received.qsize())}


ROUND = 80_000.0
"""Seconds. A round ends only when a test moves the clock."""


@pytest.fixture(autouse=True)
def _rounds_end_only_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.login.lobby.RECONCILE_INTERVAL", ROUND)


@pytest.fixture
def pushes() -> Pushes:
    return Pushes()


@pytest.fixture
def lobby(login_service: LoginMethods, clock: Clock, pushes: Pushes) -> Lobby:
    """A lobby that is not running. Tests call its methods."""
    lobby = Lobby(reader=login_service.reader, clock=clock, instance="one")
    lobby._push = pushes
    return lobby


@pytest.fixture
async def running(lobby: Lobby, pushes: Pushes, bus: Bus) -> AsyncIterator[Lobby]:
    async with running_lobby(lobby, pushes, bus):
        yield lobby


@asynccontextmanager
async def running_lobby(lobby: Lobby, pushes: Pushes, bus: Bus) -> AsyncIterator[None]:
    dispatcher = NoticeDispatcher(bus=bus, instance="one", handlers=[lobby.notice_handler()])
    tasks = [asyncio.create_task(lobby.run(pushes)), asyncio.create_task(dispatcher.run())]
    await eventually(lambda: lobby.unready_reason() is None is dispatcher.unready_reason())
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


Turn = Callable[[], Awaitable[None]]


@pytest.fixture
def turn(lobby: Lobby, loop_clock: LoopClock, monkeypatch: pytest.MonkeyPatch) -> Turn:
    """Let the lobby read the next slice of a round, and wait until that is done."""
    reconcile = lobby._reconcile
    rounds = 0

    async def counted(login_ids: list[str]) -> None:
        nonlocal rounds
        await reconcile(login_ids)
        rounds += 1

    monkeypatch.setattr(lobby, "_reconcile", counted)

    async def next_turn() -> None:
        before = rounds
        await loop_clock.move(ROUND / RECONCILE_SLICES)
        await eventually(lambda: rounds > before)

    return next_turn


async def begin(login_service: LoginMethods) -> NewLogin:
    return await login_service.begin("shop", FIREFOX, has_socket=True)


async def push_another(lobby: Lobby, login_service: LoginMethods, pushes: Pushes) -> None:
    """Show that no push came before this one. Notices are handled in order."""
    new_login = await begin(login_service)
    lobby.wait("another", new_login.login)
    await login_service.scan(new_login.login.scene, ALICE)
    assert await pushes.next() == ("another", "login-scanned")


async def test_browser_receives_events_of_its_phone(
    running: Lobby, login_service: LoginMethods, pushes: Pushes
) -> None:
    new_login = await begin(login_service)
    running.wait("tab", new_login.login)

    await login_service.scan(new_login.login.scene, ALICE)
    await login_service.confirm(new_login.login.id, ALICE)

    assert await pushes.next() == ("tab", "login-scanned")
    assert await pushes.next() == ("tab", "login-confirmed")


async def test_time_of_the_confirm_push_is_known(
    running: Lobby, login_service: LoginMethods, pushes: Pushes, clock: Clock
) -> None:
    new_login = await begin(login_service)
    running.wait("tab", new_login.login)
    await login_service.scan(new_login.login.scene, ALICE)
    assert await pushes.next() == ("tab", "login-scanned")
    assert running.confirm_pushed_at(new_login.login.id) is None

    clock.time += 5
    await login_service.confirm(new_login.login.id, ALICE)
    assert await pushes.next() == ("tab", "login-confirmed")
    await running._reconcile_all()

    assert running.confirm_pushed_at(new_login.login.id) == clock()
    assert running.confirm_pushed_at("unknown") is None


async def test_failed_push_does_not_affect_other_browsers(
    running: Lobby, login_service: LoginMethods, pushes: Pushes
) -> None:
    for sid in ("broken", "fine"):
        new_login = await begin(login_service)
        running.wait(sid, new_login.login)
        await login_service.scan(new_login.login.scene, ALICE)

    assert await pushes.next() == ("fine", "login-scanned")


async def test_browser_is_notified_when_its_code_expires(
    lobby: Lobby, login_service: LoginMethods, pushes: Pushes, clock: Clock
) -> None:
    new_login = await begin(login_service)
    lobby.wait("tab", new_login.login)

    clock.time += 119
    await lobby.expire_due()
    assert pushes.received.empty()
    clock.time += 1
    await lobby.expire_due()

    assert await pushes.next() == ("tab", "login-expired")
    assert len(lobby) == 0


async def test_unregistered_browser_is_not_expired_before_the_extended_end(
    running: Lobby, make_login_service: Callable[..., LoginMethods], pushes: Pushes, clock: Clock
) -> None:
    login_service = make_login_service(directory=FixedDirectory())
    new_login = await begin(login_service)
    running.wait("tab", new_login.login)
    await login_service.scan(new_login.login.scene, ALICE)
    with pytest.raises(UnregisteredUser):
        await login_service.confirm(new_login.login.id, ALICE)
    assert await pushes.next() == ("tab", "login-scanned")
    assert await pushes.next() == ("tab", "login-unregistered")

    clock.time = new_login.login.expires_at
    await running.expire_due()
    assert pushes.received.empty()
    clock.time += 480
    await running.expire_due()

    assert await pushes.next() == ("tab", "login-expired")


async def test_later_browser_with_earlier_expiry_is_notified_in_time(
    running: Lobby, login_service: LoginMethods, pushes: Pushes, clock: Clock
) -> None:
    soon = await begin(login_service)
    clock.time += 60
    late = await begin(login_service)
    running.wait("late", late.login)
    await eventually(
        lambda: not running._first_expiry_changed.is_set()
    )  # the lobby waits for the later expiry

    clock.time = soon.login.expires_at
    running.wait("soon", soon.login)

    assert await pushes.next() == ("soon", "login-expired")
    assert len(running) == 1


async def test_confirm_with_lost_notice_is_found_at_expiry(
    lobby: Lobby, login_service: LoginMethods, pushes: Pushes, clock: Clock
) -> None:
    """The lobby does not listen on the bus. It finds the change in the state."""
    new_login = await begin(login_service)
    lobby.wait("tab", new_login.login)
    await login_service.scan(new_login.login.scene, ALICE)
    clock.time += 119
    await login_service.confirm(new_login.login.id, ALICE)

    clock.time += 1
    await lobby.expire_due()

    assert await pushes.next() == ("tab", "login-confirmed")
    clock.time += 60
    await lobby.expire_due()
    assert await pushes.next() == ("tab", "login-expired")


async def test_changes_before_subscription_are_pushed(
    lobby: Lobby, login_service: LoginMethods, pushes: Pushes, bus: Bus
) -> None:
    fresh, scanned, confirmed = [await begin(login_service) for _ in range(3)]
    for name, new_login in [("fresh", fresh), ("scanned", scanned), ("confirmed", confirmed)]:
        lobby.wait(name, new_login.login)
    await login_service.scan(scanned.login.scene, ALICE)
    await login_service.scan(confirmed.login.scene, ALICE)
    await login_service.confirm(confirmed.login.id, ALICE)

    async with running_lobby(lobby, pushes, bus):
        received = {await pushes.next(), await pushes.next()}

    assert received == {("scanned", "login-scanned"), ("confirmed", "login-confirmed")}


async def test_browser_that_never_redeems_is_notified_of_expiry(
    running: Lobby, login_service: LoginMethods, pushes: Pushes, clock: Clock
) -> None:
    """This is long before the code expires."""
    new_login = await begin(login_service)
    running.wait("tab", new_login.login)
    await login_service.scan(new_login.login.scene, ALICE)
    await login_service.confirm(new_login.login.id, ALICE)
    for _ in range(2):
        await pushes.next()

    clock.time += 60
    await running.expire_due()

    assert await pushes.next() == ("tab", "login-expired")


async def test_browser_that_leaves_during_a_read_stays_removed(
    lobby: Lobby,
    login_service: LoginMethods,
    pushes: Pushes,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new_login = await begin(login_service)
    lobby.wait("tab", new_login.login)
    await login_service.scan(new_login.login.scene, ALICE)
    clock.time += 119
    await login_service.confirm(new_login.login.id, ALICE)
    clock.time += 1
    changed = login_service.reader.get_changed

    async def slow(known: Mapping[str, int]) -> object:
        lobby.leave("tab")
        return await changed(known)

    monkeypatch.setattr(login_service.reader, "get_changed", slow)
    await lobby.expire_due()

    assert len(lobby) == 0
    assert pushes.received.empty()


async def test_repeated_resume_does_not_grow_the_heap(
    lobby: Lobby, login_service: LoginMethods
) -> None:
    new_login = await begin(login_service)
    for _ in range(1_000):
        lobby.wait("tab", new_login.login)

    assert len(lobby._expiries) <= HEAP_SLACK + 2


async def test_browsers_that_left_do_not_stay_in_the_heap(
    lobby: Lobby, login_service: LoginMethods
) -> None:
    login = (await begin(login_service)).login
    for number in range(1_000):
        lobby.wait(f"tab {number}", replace(login, id=f"{number:026}"))
    for number in range(999):
        lobby.leave(f"tab {number}")

    assert len(lobby._expiries) <= HEAP_SLACK + 2
    assert (login.expires_at, f"{999:026}") in lobby._expiries


async def test_read_of_an_unavailable_state_is_repeated(
    lobby: Lobby,
    login_service: LoginMethods,
    pushes: Pushes,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def down(known: Mapping[str, int]) -> None:
        raise Unavailable

    new_login = await begin(login_service)
    lobby.wait("tab", new_login.login)
    clock.time += 120
    with monkeypatch.context() as patch:
        patch.setattr(login_service.reader, "get_changed", down)
        await lobby.expire_due()
    assert pushes.received.empty()

    clock.time += 1
    await lobby.expire_due()

    assert await pushes.next() == ("tab", "login-expired")


async def test_socket_waits_for_one_login(lobby: Lobby, login_service: LoginMethods) -> None:
    first, second = await begin(login_service), await begin(login_service)

    assert lobby.wait("tab", first.login) is None
    assert lobby.wait("tab", first.login) is None
    assert lobby.wait("tab", second.login) == first.login.id
    assert len(lobby) == 1


async def test_login_has_one_socket(
    running: Lobby, login_service: LoginMethods, pushes: Pushes
) -> None:
    new_login = await begin(login_service)
    running.wait("old", new_login.login)
    running.wait("new", new_login.login)
    running.leave("old")

    await login_service.scan(new_login.login.scene, ALICE)

    assert await pushes.next() == ("new", "login-scanned")


async def test_browser_that_left_receives_no_event(
    running: Lobby, login_service: LoginMethods, pushes: Pushes
) -> None:
    new_login = await begin(login_service)
    running.wait("tab", new_login.login)
    running.leave("tab")
    running.leave("tab")

    await login_service.scan(new_login.login.scene, ALICE)

    await push_another(running, login_service, pushes)
    assert len(running) == 1


async def test_change_with_lost_notice_is_found_within_a_round(
    turn: Turn,
    running: Lobby,
    login_service: LoginMethods,
    make_login_service: Callable[..., LoginMethods],
    pushes: Pushes,
) -> None:
    """The notice is published on another bus. The lobby finds the change in the state."""
    new_login = await begin(login_service)
    running.wait("tab", new_login.login)
    login_service_without_bus = make_login_service(bus=MemoryBus())

    await login_service_without_bus.scan(new_login.login.scene, ALICE)
    for _ in range(RECONCILE_SLICES):
        await turn()
    assert pushes.all() == {("tab", "login-scanned")}

    await login_service_without_bus.confirm(new_login.login.id, ALICE)
    for _ in range(RECONCILE_SLICES):
        await turn()
    assert pushes.all() == {("tab", "login-confirmed")}


async def test_browser_added_during_a_round_waits_one_round(
    turn: Turn,
    running: Lobby,
    login_service: LoginMethods,
    make_login_service: Callable[..., LoginMethods],
    pushes: Pushes,
) -> None:
    login_service_without_bus = make_login_service(bus=MemoryBus())
    for number in range(40):
        running.wait(f"other-{number}", (await begin(login_service)).login)

    for number in range(10):
        for _ in range(number % RECONCILE_SLICES):
            await turn()
        new_login = await begin(login_service)
        running.wait(f"late-{number}", new_login.login)
        await login_service_without_bus.scan(new_login.login.scene, ALICE)
        for _ in range(RECONCILE_SLICES):
            await turn()
        assert pushes.all() == {(f"late-{number}", "login-scanned")}


@pytest.fixture
def reads(login_service: LoginMethods, monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The logins of each read of the state."""
    reads: list[set[str]] = []
    changed = login_service.reader.get_changed

    async def recorded(known: Mapping[str, int]) -> object:
        reads.append(set(known))
        return await changed(known)

    monkeypatch.setattr(login_service.reader, "get_changed", recorded)
    return reads


async def test_due_logins_are_read_in_batches(
    running: Lobby, login_service: LoginMethods, clock: Clock, reads: list[set[str]]
) -> None:
    login = (await begin(login_service)).login
    clock.time = login.expires_at
    for number in range(2 * READ_BATCH + 1):
        running.wait(f"tab {number}", replace(login, id=f"{number:026}"))

    await eventually(lambda: len(running) == 0)

    assert [len(read) for read in reads] == [READ_BATCH, READ_BATCH, 1]


def set_changes(
    monkeypatch: pytest.MonkeyPatch, login_service: LoginMethods, changes: ChangedLogins
) -> None:
    async def take_changes(instance: str, shards: Sequence[str]) -> ChangedLogins:
        assert instance == "one"
        return changes

    monkeypatch.setattr(login_service.reader, "take_changes", take_changes)


async def test_only_changed_logins_are_read(
    lobby: Lobby,
    login_service: LoginMethods,
    reads: list[set[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logins = [(await begin(login_service)).login for _ in range(3)]
    for login in logins:
        lobby.wait(f"tab-{login.id}", login)
    set_changes(monkeypatch, login_service, ChangedLogins([logins[1].id, "unknown"], []))

    await lobby._reconcile(await lobby._changed_in(SHARDS, is_full=False))

    assert reads == [{logins[1].id}]


@pytest.mark.parametrize("is_full", [True, False])
async def test_logins_of_a_whole_shard_are_read(
    lobby: Lobby,
    login_service: LoginMethods,
    reads: list[set[str]],
    monkeypatch: pytest.MonkeyPatch,
    is_full: bool,
) -> None:
    login = (await begin(login_service)).login
    lobby.wait("tab", login)
    shard = login.id[0]
    other = "A" if shard != "A" else "B"
    lobby.wait("other", replace(login, id=other + login.id[1:]))
    set_changes(monkeypatch, login_service, ChangedLogins([], [] if is_full else [shard]))

    await lobby._reconcile(await lobby._changed_in(shard, is_full=is_full))

    assert reads == [{login.id}]


async def test_all_logins_are_read_in_each_full_round(
    turn: Turn,
    running: Lobby,
    login_service: LoginMethods,
    reads: list[set[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An instance of an older version stores no ids of changed logins."""
    login = (await begin(login_service)).login
    running.wait("tab", login)
    set_changes(monkeypatch, login_service, ChangedLogins([], []))

    for _ in range(RECONCILE_SLICES * (FULL_ROUND_INTERVAL + 1)):
        await turn()

    assert reads.count({login.id}) == 2


async def test_shard_without_browsers_is_not_taken(
    turn: Turn, running: Lobby, login_service: LoginMethods, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    async def take_changes(instance: str, shards: Sequence[str]) -> ChangedLogins:
        taken.extend(shards)
        return ChangedLogins([], [])

    monkeypatch.setattr(login_service.reader, "take_changes", take_changes)
    login = (await begin(login_service)).login
    running.wait("tab", login)

    for _ in range(RECONCILE_SLICES):
        await turn()

    assert taken == [login.id[0]]


async def test_login_missing_from_the_state_counts_as_expired(
    lobby: Lobby, login_service: LoginMethods, pushes: Pushes, clock: Clock
) -> None:
    new_login = await begin(login_service)
    lobby.wait("tab", replace(new_login.login, id="never-stored"))

    await lobby._reconcile(["never-stored"])

    assert await pushes.next() == ("tab", "login-expired")
    assert len(lobby) == 0


async def test_repeated_and_unknown_notices_are_not_pushed(
    running: Lobby, login_service: LoginMethods, pushes: Pushes, bus: Bus
) -> None:
    new_login = await begin(login_service)
    running.wait("tab", new_login.login)
    await login_service.scan(new_login.login.scene, ALICE)
    for event in ("login-scanned", "login-scanned", "login-confirmed", "login-scanned", "nonsense"):
        await bus.publish("one", Notice(event, new_login.login.id))

    assert await pushes.next() == ("tab", "login-scanned")
    assert await pushes.next() == ("tab", "login-confirmed")
    await push_another(running, login_service, pushes)


async def test_confirm_repeated_after_a_failover_is_pushed_again(
    running: Lobby, login_service: LoginMethods, pushes: Pushes, store: StateBackend
) -> None:
    new_login = await begin(login_service)
    running.wait("tab", new_login.login)
    await login_service.scan(new_login.login.scene, ALICE)
    scanned = await store.logins.get(new_login.login.id)
    assert scanned is not None
    await login_service.confirm(new_login.login.id, ALICE)
    confirmed = await store.logins.get(new_login.login.id)
    assert confirmed is not None

    await store.logins.swap(confirmed, scanned)
    await login_service.confirm(new_login.login.id, ALICE)

    received = [await pushes.next() for _ in range(3)]
    assert [event for _, event in received] == [
        "login-scanned",
        "login-confirmed",
        "login-confirmed",
    ]


async def test_login_resumed_on_another_instance_is_removed(
    running: Lobby,
    login_service: LoginMethods,
    make_login_service: Callable[..., LoginMethods],
    pushes: Pushes,
) -> None:
    new_login = await begin(login_service)
    running.wait("tab", new_login.login)

    await make_login_service(instance="two").resume(
        new_login.login.id, new_login.secret, app="shop"
    )

    await eventually(lambda: len(running) == 0)
    await push_another(running, login_service, pushes)


async def test_login_resumed_here_during_a_read_is_kept(
    lobby: Lobby, login_service: LoginMethods, make_login_service: Callable[..., LoginMethods]
) -> None:
    first, second = await begin(login_service), await begin(login_service)
    for sid, new_login in (("first", first), ("second", second)):
        lobby.wait(sid, new_login.login)
        await login_service.scan(new_login.login.scene, ALICE)
    await make_login_service(instance="two").resume(second.login.id, second.secret, app="shop")

    async def push(sid: str, app: str, notice: Notice) -> None:
        """Resume the second login before the lobby handles it."""
        login = await login_service.resume(second.login.id, second.secret, app="shop")
        lobby.wait("second, again", login)

    lobby._push = push
    await lobby._reconcile([first.login.id, second.login.id])

    assert len(lobby) == 2


async def test_late_moved_notice_does_not_remove_a_returned_login(
    running: Lobby, login_service: LoginMethods, pushes: Pushes, bus: Bus
) -> None:
    new_login = await begin(login_service)
    running.wait("tab", new_login.login)

    await bus.publish("one", Notice("login-moved", new_login.login.id))

    await push_another(running, login_service, pushes)
    assert len(running) == 2


async def test_logins_not_read_during_an_outage_are_read_first(
    turn: Turn,
    running: Lobby,
    login_service: LoginMethods,
    make_login_service: Callable[..., LoginMethods],
    pushes: Pushes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After an outage all logins are read at once, not slice by slice."""
    login_service_without_bus = make_login_service(bus=MemoryBus())
    new_logins = [await begin(login_service) for _ in range(40)]
    for number, one in enumerate(new_logins):
        running.wait(f"tab-{number}", one.login)
    changed = login_service.reader.get_changed

    async def down(known: Mapping[str, int]) -> object:
        monkeypatch.setattr(login_service.reader, "get_changed", changed)
        for one in new_logins:
            await login_service_without_bus.scan(one.login.scene, ALICE)
        raise Unavailable

    monkeypatch.setattr(login_service.reader, "get_changed", down)
    while login_service.reader.get_changed is down:
        await turn()
    assert pushes.received.empty()

    await turn()

    assert pushes.all() == {(f"tab-{number}", "login-scanned") for number in range(40)}


async def test_browser_that_leaves_during_an_outage_stays_removed(
    lobby: Lobby,
    login_service: LoginMethods,
    pushes: Pushes,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new_login = await begin(login_service)
    lobby.wait("tab", new_login.login)
    clock.time += 120

    async def down(known: Mapping[str, int]) -> None:
        lobby.leave("tab")
        raise Unavailable

    monkeypatch.setattr(login_service.reader, "get_changed", down)
    await lobby.expire_due()

    assert len(lobby) == 0
