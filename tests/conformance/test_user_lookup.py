"""Who is who here, over each kind of database: found, joined, invited, let in no more."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from broker.directories.sql import SqlDirectory
from broker.errors import BrokerError, InvalidRequest
from broker.identity.errors import UnregisteredUser, UserBlocked
from broker.identity.model import Identity
from broker.records import tables as t
from broker.records.database import Database
from broker.records.errors import RecordsUnavailable
from broker.records.user_admin import SqlUserAdmin
from broker.records.user_identities import lock_identities
from broker.records.user_lookup import SqlUserLookup
from broker.users.errors import (
    IdentityAlreadyLinked,
    IdentityNotFound,
    InvalidInvitation,
    InvalidUser,
    UserAlreadyExists,
    UserNotFound,
)
from broker.users.rules import INVITATION_LIFETIME
from tests.support.builders import Clock
from tests.support.servers.postgres import PostgresServer

RED, BLUE = "wx00000000000000re", "wx0000000000000blu"
ALICE = Identity("wechat", "alice-in-red", "alice-in-all", RED)
ALICE_IN_BLUE = Identity("wechat", "alice-in-blue", "alice-in-all", BLUE)
BOB = Identity("wechat", "bob-in-red", "bob-in-all", RED)
PROVIDERS = ("wechat", "pretend")


class Instance:
    """One of several over one database."""

    def __init__(self, url: str, clock: Clock) -> None:
        self.database = Database(url)
        self.people = SqlUserLookup(self.database, clock=clock)
        self.users = SqlUserAdmin(self.database, providers=PROVIDERS, clock=clock)
        self.find = SqlDirectory(self.people).find

    async def rows(self, table: sa.Table) -> list[dict[str, object]]:
        async with self.database.read_connection() as connection:
            return [dict(row) for row in (await connection.execute(sa.select(table))).mappings()]


@asynccontextmanager
async def instance(url: str, clock: Clock) -> AsyncIterator[Instance]:
    one = Instance(url, clock)
    yield one
    await one.database.close()


@pytest.fixture
async def one(records_url: str, clock: Clock) -> AsyncIterator[Instance]:
    async with instance(records_url, clock) as one:
        yield one


@pytest.fixture
async def two(records_url: str, clock: Clock) -> AsyncIterator[Instance]:
    async with instance(records_url, clock) as two:
        yield two


def fields(identity: Identity, **changes: object) -> dict[str, object]:
    said = {
        "provider": identity.provider,
        "provider_app_id": identity.provider_app_id,
        "openid": identity.id,
        "unionid": identity.unionid,
    }
    return {**said, **changes}


async def known(one: Instance, user_id: str, *identities: Identity) -> None:
    await one.users.add({"id": user_id})
    for identity in identities:
        await one.users.link(user_id, fields(identity))


async def outcome(act: Awaitable[object]) -> object:
    """What `act` gives, or the kind of failure."""
    try:
        return await act
    except BrokerError as error:
        return type(error)


# --- found


async def test_a_person_is_found_by_provider_app_and_openid(one: Instance) -> None:
    await known(one, "u-alice", replace(ALICE, unionid=None))

    assert await one.find(ALICE) == "u-alice"
    for changes in ({"provider": "pretend"}, {"provider_app_id": BLUE}, {"id": "other"}):
        with pytest.raises(UnregisteredUser):
            await one.find(replace(ALICE, unionid=None, **changes))


@pytest.mark.parametrize("records_url", ["postgresql"], indirect=True)
async def test_who_is_known_is_found_by_one_statement(one: Instance) -> None:
    await known(one, "u-alice", ALICE)
    asked: list[str] = []
    engine = one.database._engine.sync_engine

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(connection: object, cursor: object, statement: str, *more: object) -> None:
        asked.append(statement)

    async with one.database.read_connection() as connection:
        pooled = await connection.get_raw_connection()
        assert pooled.driver_connection is not None
        pooled.driver_connection.add_query_logger(lambda query: asked.append(query.query))

    assert await one.find(ALICE) == "u-alice"

    probe, statement = sorted(asked)  # the pool's: whether the connection is still good
    assert probe == ";"
    assert statement.startswith("SELECT users.id")


@pytest.mark.parametrize("odd", ["\0", "a\0b", "x" * 129, "\ud800", "\n"])
async def test_an_id_that_no_database_takes_is_nobodys(one: Instance, odd: str) -> None:
    for identity in (replace(ALICE, id=odd), replace(ALICE, unionid=odd)):
        with pytest.raises(UnregisteredUser):
            await one.find(identity)
        with pytest.raises(InvalidRequest):
            await one.people.register(identity, "some-invitation")


# --- joined


async def test_a_person_is_the_same_user_in_another_app_of_the_company(
    one: Instance, two: Instance
) -> None:
    await known(one, "u-alice", ALICE)

    assert await two.find(ALICE_IN_BLUE) == "u-alice"

    user = await one.users.get("u-alice")
    assert {each.id for each in user.identities} == {ALICE.id, ALICE_IN_BLUE.id}
    assert await one.find(replace(ALICE_IN_BLUE, unionid=None)) == "u-alice"


async def test_of_instances_that_join_at_once_one_writes_it_down(
    records_url: str, clock: Clock
) -> None:
    async with AsyncExitStack() as stack:
        instances = [
            await stack.enter_async_context(instance(records_url, clock)) for _ in range(6)
        ]
        await known(instances[0], "u-alice", ALICE)

        found = await asyncio.gather(*(each.find(ALICE_IN_BLUE) for each in instances))

        assert set(found) == {"u-alice"}
        assert len(await instances[0].rows(t.identities)) == 2


async def test_a_unionid_that_comes_later_is_written_down(one: Instance) -> None:
    await known(one, "u-alice", replace(ALICE, unionid=None))
    with pytest.raises(UnregisteredUser):
        await one.find(ALICE_IN_BLUE)

    await one.find(ALICE)

    assert await one.find(ALICE_IN_BLUE) == "u-alice"


async def test_what_another_provider_calls_the_same_is_somebody_else(one: Instance) -> None:
    await known(one, "u-alice", ALICE)

    with pytest.raises(UnregisteredUser):
        await one.find(replace(ALICE_IN_BLUE, provider="pretend"))


async def test_two_users_are_not_made_one(one: Instance) -> None:
    await known(one, "u-alice", ALICE)
    await known(one, "u-other", replace(ALICE_IN_BLUE, unionid=None))

    with capture_logs() as logs:
        assert await one.find(ALICE_IN_BLUE) == "u-other"

    assert [log["event"] for log in logs] == ["unionid belongs to another user"]
    assert await one.find(replace(ALICE, id="third", provider_app_id="wx3")) == "u-alice"


# --- let in no more


async def test_a_blocked_person_is_blocked_in_every_app_until_let_in_again(one: Instance) -> None:
    await known(one, "u-alice", ALICE)
    await one.users.update("u-alice", {"blocked": True})

    for identity in (ALICE, ALICE_IN_BLUE, ALICE_IN_BLUE):
        with pytest.raises(UserBlocked):
            await one.find(identity)
    await one.users.update("u-alice", {"blocked": False})
    assert await one.find(ALICE_IN_BLUE) == "u-alice"


async def test_who_was_removed_is_unknown_and_so_are_invitations(one: Instance) -> None:
    await known(one, "u-alice", ALICE)
    invitation = (await one.users.invite("u-alice", {})).secret

    await one.users.remove("u-alice")

    for identity in (ALICE, ALICE_IN_BLUE):
        with pytest.raises(UnregisteredUser):
            await one.find(identity)
    with pytest.raises(InvalidInvitation):
        await one.people.register(BOB, invitation)
    assert await one.rows(t.identities) == await one.rows(t.invitations) == []


# --- invited


async def test_an_invitation_makes_the_phone_the_users_once(one: Instance, two: Instance) -> None:
    await one.users.add({"id": "u-alice", "name": "Alice"})
    invitation = await one.users.invite("u-alice", {})

    registered = await two.people.register(ALICE, invitation.secret)
    again = await one.people.register(ALICE, invitation.secret)

    assert registered == again == ("u-alice", "Alice")
    assert (len(invitation.secret), invitation.expires_in) == (32, INVITATION_LIFETIME)
    assert await one.find(ALICE) == await one.find(ALICE_IN_BLUE) == "u-alice"
    with pytest.raises(InvalidInvitation):
        await one.people.register(BOB, invitation.secret)


async def test_of_phones_that_show_one_invitation_at_once_one_is_the_users(
    one: Instance, two: Instance
) -> None:
    await one.users.add({"id": "u-alice"})
    invitation = (await one.users.invite("u-alice", {})).secret
    crowd = [Identity("pretend", f"person-{number}") for number in range(10)]

    came = await asyncio.gather(
        *(
            outcome(each.people.register(person, invitation))
            for each, person in zip([one, two] * 5, crowd, strict=True)
        )
    )

    assert came.count(InvalidInvitation) == 9
    assert len(await one.rows(t.identities)) == 1


async def test_invitations_that_are_none_are_all_alike(one: Instance, clock: Clock) -> None:
    await one.users.add({"id": "u-alice"})
    await one.users.add({"id": "u-bob"})
    former = (await one.users.invite("u-alice", {})).secret
    late = (await one.users.invite("u-alice", {"expires_in": 60})).secret
    used = (await one.users.invite("u-bob", {})).secret
    await one.people.register(BOB, used)
    clock.time += 60

    said = set()
    for invitation in ("made-up", former, late, used):
        with pytest.raises(InvalidInvitation) as refused:
            await one.people.register(ALICE, invitation)
        said.add(str(refused.value.body()))
    assert len(said) == 1
    assert len(await one.rows(t.identities)) == 1


async def test_what_cannot_be_used_now_is_not_used_up(one: Instance) -> None:
    await known(one, "u-bob", BOB)
    await one.users.add({"id": "u-alice", "blocked": True})
    invitation = (await one.users.invite("u-alice", {})).secret

    with pytest.raises(UserBlocked):
        await one.people.register(ALICE, invitation)
    await one.users.update("u-alice", {"blocked": False})
    for bob in (BOB, replace(BOB, id="bob-in-blue", provider_app_id=BLUE)):
        with pytest.raises(IdentityAlreadyLinked):
            await one.people.register(bob, invitation)

    assert (await one.people.register(ALICE, invitation)).subject == "u-alice"


async def test_used_invitation_binds_nothing_after_unlink(one: Instance, two: Instance) -> None:
    await one.users.add({"id": "u-alice"})
    invitation = (await one.users.invite("u-alice", {})).secret
    await one.people.register(ALICE, invitation)
    used = await one.rows(t.invitations)

    await one.users.unlink("u-alice", fields(ALICE))
    async with one.database.write_transaction() as connection:  # as if unlink had not revoked it
        await connection.execute(sa.insert(t.invitations), [dict(row) for row in used])

    for instance in (one, two):
        with pytest.raises(InvalidInvitation):
            await instance.people.register(ALICE, invitation)
    assert await one.rows(t.identities) == []


async def test_unlink_revokes_invitations_of_the_user_alone(one: Instance) -> None:
    await known(one, "u-alice", ALICE)
    await known(one, "u-bob")
    alices = (await one.users.invite("u-alice", {})).secret
    bobs = (await one.users.invite("u-bob", {})).secret

    await one.users.unlink("u-alice", fields(ALICE))

    with pytest.raises(InvalidInvitation):
        await one.people.register(ALICE, alices)
    assert (await one.people.register(BOB, bobs)).subject == "u-bob"


async def test_failed_unlink_revokes_no_invitation(one: Instance) -> None:
    await known(one, "u-alice")
    invitation = (await one.users.invite("u-alice", {})).secret

    with pytest.raises(IdentityNotFound):
        await one.users.unlink("u-alice", fields(ALICE))

    assert (await one.people.register(ALICE, invitation)).subject == "u-alice"


async def test_invitations_that_are_over_do_not_pile_up(one: Instance, clock: Clock) -> None:
    for number in range(3):
        await one.users.add({"id": f"u-{number}"})
        await one.users.invite(f"u-{number}", {"expires_in": 60})
        clock.time += 60

    assert [row["user_id"] for row in await one.rows(t.invitations)] == ["u-2"]


async def test_no_invitation_stands_in_the_database(
    one: Instance, records_url: str, request: pytest.FixtureRequest
) -> None:
    await one.users.add({"id": "u-alice"})
    secret = (await one.users.invite("u-alice", {})).secret
    await one.people.register(ALICE, secret)

    if records_url.startswith("sqlite"):
        with closing(sqlite3.connect(records_url.partition(":///")[2])) as connection:
            stolen = "\n".join(connection.iterdump())
    else:
        stolen = request.getfixturevalue("postgres").dump(records_url)

    assert ALICE.id in stolen
    assert secret not in stolen
    assert secret.encode().hex() not in stolen.lower()


# --- the operator's book


async def test_user_is_added_changed_and_removed(one: Instance, clock: Clock) -> None:
    added = await one.users.add({"name": "Alice"})
    clock.time += 5
    linked = await one.users.link(added.id, fields(ALICE))
    changed = await one.users.update(added.id, {"name": None, "blocked": True})

    assert len(added.id) == 16
    assert linked.as_dict()["identities"] == [fields(ALICE)]
    assert await one.users.get(added.id) == changed
    assert (changed.name, changed.blocked) == (None, True)
    assert (changed.created_at, changed.changed_at) == (clock() - 5, clock())

    unlinked = await one.users.unlink(added.id, fields(ALICE))
    assert unlinked.identities == ()
    with pytest.raises(UnregisteredUser):
        await one.find(ALICE)


async def test_users_are_listed_page_by_page(one: Instance) -> None:
    for number in range(5):
        await known(one, f"u-{number}", Identity("pretend", f"person-{number}"))

    pages = [await one.users.list(after=after, limit=2) for after in ("", "u-1", "u-3", "u-4")]

    assert [[user.id for user in page] for page in pages] == [
        ["u-0", "u-1"],
        ["u-2", "u-3"],
        ["u-4"],
        [],
    ]
    assert [one.id for one in pages[1][0].identities] == ["person-2"]


async def test_linking_twice_says_the_same(one: Instance) -> None:
    await known(one, "u-alice", ALICE)

    again = await one.users.link("u-alice", fields(ALICE))

    assert again.identities == (ALICE,)


WRONG: list[tuple[Callable[[SqlUserAdmin], Awaitable[object]], type[BrokerError]]] = [
    (lambda book: book.get("nobody"), UserNotFound),
    (lambda book: book.get("no\0body"), UserNotFound),
    (lambda book: book.update("nobody", {"name": "x"}), UserNotFound),
    (lambda book: book.remove("nobody"), UserNotFound),
    (lambda book: book.link("nobody", fields(ALICE)), UserNotFound),
    (lambda book: book.unlink("nobody", fields(ALICE)), UserNotFound),
    (lambda book: book.invite("nobody", {}), UserNotFound),
    (lambda book: book.unlink("u-bob", fields(ALICE)), IdentityNotFound),
    (lambda book: book.add({"id": "u-bob"}), UserAlreadyExists),
    (lambda book: book.add({"id": "-x"}), InvalidUser),
    (lambda book: book.add({"id": "x" * 65}), InvalidUser),
    (lambda book: book.add({"name": ""}), InvalidUser),
    (lambda book: book.add({"colour": "red"}), InvalidUser),
    (lambda book: book.update("u-bob", {"id": "u-robert"}), InvalidUser),
    (lambda book: book.update("u-bob", {"blocked": 1}), InvalidUser),
    (lambda book: book.link("u-alice", fields(BOB)), IdentityAlreadyLinked),
    (lambda book: book.link("u-alice", fields(BOB, openid="bob-in-blue")), IdentityAlreadyLinked),
    (lambda book: book.link("u-alice", fields(ALICE, provider="alipay")), InvalidUser),
    (lambda book: book.link("u-alice", fields(ALICE, openid="\0")), InvalidUser),
    (lambda book: book.link("u-alice", {"provider": "wechat", "openid": "x"}), InvalidUser),
    (lambda book: book.invite("u-alice", {"expires_in": 0}), InvalidUser),
    (lambda book: book.invite("u-alice", {"expires_in": True}), InvalidUser),
    (lambda book: book.invite("u-alice", {"expires_in": 10**9}), InvalidUser),
]


async def test_what_cannot_be_is_said_and_changes_nothing(one: Instance) -> None:
    await known(one, "u-alice")
    await known(one, "u-bob", BOB)
    before = await one.users.list()

    for act, kind in WRONG:
        with pytest.raises(kind):
            await act(one.users)

    assert await one.users.list() == before
    assert await one.rows(t.invitations) == []


# --- a crowd, and a database that is down


async def test_neither_strangers_nor_guesses_wait_for_whoever_writes(
    one: Instance, two: Instance
) -> None:
    await known(one, "u-alice", ALICE)

    async with two.database.write_transaction() as connection:
        await lock_identities(connection)
        assert await one.find(ALICE) == "u-alice"
        with pytest.raises(UnregisteredUser):
            await one.find(BOB)
        with pytest.raises(InvalidInvitation):
            await one.people.register(BOB, "made-up")


@pytest.mark.parametrize("records_url", ["postgresql"], indirect=True)
async def test_while_the_database_is_down_nobody_is_taken_for_unknown(
    one: Instance, frail_postgres: PostgresServer
) -> None:
    await known(one, "u-alice", ALICE)

    frail_postgres.stop()
    for identity in (ALICE, ALICE_IN_BLUE, BOB):
        with pytest.raises(RecordsUnavailable) as down:
            await one.find(identity)
        assert down.value.body()["retry_after"] == 2

    frail_postgres.start()
    assert await one.find(ALICE) == "u-alice"
