"""Tests of the user lookup over each database: find, link, register, block."""

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
from broker.identity.model import Identity, UserProfile
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
    """The user services of one instance over a shared database."""

    def __init__(self, url: str, clock: Clock) -> None:
        self.database = Database(url)
        self.lookup = SqlUserLookup(self.database, clock=clock)
        self.users = SqlUserAdmin(self.database, providers=PROVIDERS, clock=clock)
        self.find = SqlDirectory(self.lookup).find

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
    values = {
        "provider": identity.provider,
        "provider_app_id": identity.provider_app_id,
        "openid": identity.id,
        "unionid": identity.unionid,
    }
    return {**values, **changes}


async def add_user(one: Instance, user_id: str, *identities: Identity) -> None:
    await one.users.add({"id": user_id})
    for identity in identities:
        await one.users.link(user_id, fields(identity))


async def outcome(act: Awaitable[object]) -> object:
    """Return the result of `act`, or the class of its error."""
    try:
        return await act
    except BrokerError as error:
        return type(error)


# --- found


async def test_user_is_found_by_provider_app_and_openid(one: Instance) -> None:
    await add_user(one, "u-alice", replace(ALICE, unionid=None))

    assert (await one.find(ALICE)).subject == "u-alice"
    for changes in ({"provider": "pretend"}, {"provider_app_id": BLUE}, {"id": "other"}):
        with pytest.raises(UnregisteredUser):
            await one.find(replace(ALICE, unionid=None, **changes))


@pytest.mark.parametrize("records_url", ["postgresql"], indirect=True)
async def test_known_user_is_found_by_one_statement(one: Instance) -> None:
    await add_user(one, "u-alice", ALICE)
    statements: list[str] = []
    engine = one.database._engine.sync_engine

    @sa.event.listens_for(engine, "before_cursor_execute")
    def record_statement(connection: object, cursor: object, statement: str, *more: object) -> None:
        statements.append(statement)

    async with one.database.read_connection() as connection:
        pooled = await connection.get_raw_connection()
        assert pooled.driver_connection is not None
        pooled.driver_connection.add_query_logger(lambda query: statements.append(query.query))

    assert (await one.find(ALICE)).subject == "u-alice"

    probe, statement = sorted(statements)  # the pool checks the connection
    assert probe == ";"
    assert statement.startswith("SELECT users.id")


@pytest.mark.parametrize("text", ["\0", "a\0b", "x" * 129, "\ud800", "\n"])
async def test_id_unsupported_by_databases_is_unregistered(one: Instance, text: str) -> None:
    for identity in (replace(ALICE, id=text), replace(ALICE, unionid=text)):
        with pytest.raises(UnregisteredUser):
            await one.find(identity)
        with pytest.raises(InvalidRequest):
            await one.lookup.register(identity, "some-invitation")


# --- linked by unionid


async def test_user_is_found_by_unionid_in_another_app(one: Instance, two: Instance) -> None:
    await add_user(one, "u-alice", ALICE)

    assert (await two.find(ALICE_IN_BLUE)).subject == "u-alice"

    user = await one.users.get("u-alice")
    assert {each.id for each in user.identities} == {ALICE.id, ALICE_IN_BLUE.id}
    assert (await one.find(replace(ALICE_IN_BLUE, unionid=None))).subject == "u-alice"


async def test_simultaneous_links_store_one_identity(records_url: str, clock: Clock) -> None:
    async with AsyncExitStack() as stack:
        instances = [
            await stack.enter_async_context(instance(records_url, clock)) for _ in range(6)
        ]
        await add_user(instances[0], "u-alice", ALICE)

        found = await asyncio.gather(*(each.find(ALICE_IN_BLUE) for each in instances))

        assert {profile.subject for profile in found} == {"u-alice"}
        assert len(await instances[0].rows(t.identities)) == 2


async def test_unionid_received_later_is_stored(one: Instance) -> None:
    await add_user(one, "u-alice", replace(ALICE, unionid=None))
    with pytest.raises(UnregisteredUser):
        await one.find(ALICE_IN_BLUE)

    await one.find(ALICE)

    assert (await one.find(ALICE_IN_BLUE)).subject == "u-alice"


async def test_same_unionid_at_another_provider_is_unregistered(one: Instance) -> None:
    await add_user(one, "u-alice", ALICE)

    with pytest.raises(UnregisteredUser):
        await one.find(replace(ALICE_IN_BLUE, provider="pretend"))


async def test_users_with_one_unionid_are_not_merged(one: Instance) -> None:
    await add_user(one, "u-alice", ALICE)
    await add_user(one, "u-other", replace(ALICE_IN_BLUE, unionid=None))

    with capture_logs() as logs:
        assert (await one.find(ALICE_IN_BLUE)).subject == "u-other"

    assert [log["event"] for log in logs] == ["unionid belongs to another user"]
    assert (await one.find(replace(ALICE, id="third", provider_app_id="wx3"))).subject == "u-alice"


# --- blocked and removed


async def test_blocked_user_is_refused_in_every_app(one: Instance) -> None:
    await add_user(one, "u-alice", ALICE)
    await one.users.update("u-alice", {"blocked": True})

    for identity in (ALICE, ALICE_IN_BLUE, ALICE_IN_BLUE):
        with pytest.raises(UserBlocked):
            await one.find(identity)
    await one.users.update("u-alice", {"blocked": False})
    assert (await one.find(ALICE_IN_BLUE)).subject == "u-alice"


async def test_removed_user_loses_identities_and_invitations(one: Instance) -> None:
    await add_user(one, "u-alice", ALICE)
    invitation = (await one.users.invite("u-alice", {})).secret

    await one.users.remove("u-alice")

    for identity in (ALICE, ALICE_IN_BLUE):
        with pytest.raises(UnregisteredUser):
            await one.find(identity)
    with pytest.raises(InvalidInvitation):
        await one.lookup.register(BOB, invitation)
    assert await one.rows(t.identities) == await one.rows(t.invitations) == []


# --- invitations


async def test_invitation_links_one_identity(one: Instance, two: Instance) -> None:
    await one.users.add({"id": "u-alice", "name": "Alice"})
    invitation = await one.users.invite("u-alice", {})

    registered = await two.lookup.register(ALICE, invitation.secret)
    again = await one.lookup.register(ALICE, invitation.secret)

    assert registered == again == ("u-alice", "Alice")
    assert (len(invitation.secret), invitation.expires_in) == (30, INVITATION_LIFETIME)
    assert [(await one.find(each)).subject for each in (ALICE, ALICE_IN_BLUE)] == ["u-alice"] * 2
    with pytest.raises(InvalidInvitation):
        await one.lookup.register(BOB, invitation.secret)


async def test_one_of_simultaneous_registrations_succeeds(one: Instance, two: Instance) -> None:
    await one.users.add({"id": "u-alice"})
    invitation = (await one.users.invite("u-alice", {})).secret
    identities = [Identity("pretend", f"person-{number}") for number in range(10)]

    results = await asyncio.gather(
        *(
            outcome(each.lookup.register(person, invitation))
            for each, person in zip([one, two] * 5, identities, strict=True)
        )
    )

    assert results.count(InvalidInvitation) == 9
    assert len(await one.rows(t.identities)) == 1


async def test_invalid_invitations_have_one_response(one: Instance, clock: Clock) -> None:
    await one.users.add({"id": "u-alice"})
    await one.users.add({"id": "u-bob"})
    replaced = (await one.users.invite("u-alice", {})).secret
    late = (await one.users.invite("u-alice", {"expires_in": 60})).secret
    used = (await one.users.invite("u-bob", {})).secret
    await one.lookup.register(BOB, used)
    clock.time += 60

    responses = set()
    for invitation in ("made-up", replaced, late, used):
        with pytest.raises(InvalidInvitation) as refused:
            await one.lookup.register(ALICE, invitation)
        responses.add(str(refused.value.body()))
    assert len(responses) == 1
    assert len(await one.rows(t.identities)) == 1


async def test_refused_registration_does_not_use_the_invitation(one: Instance) -> None:
    await add_user(one, "u-bob", BOB)
    await one.users.add({"id": "u-alice", "blocked": True})
    invitation = (await one.users.invite("u-alice", {})).secret

    with pytest.raises(UserBlocked):
        await one.lookup.register(ALICE, invitation)
    await one.users.update("u-alice", {"blocked": False})
    for bob in (BOB, replace(BOB, id="bob-in-blue", provider_app_id=BLUE)):
        with pytest.raises(IdentityAlreadyLinked):
            await one.lookup.register(bob, invitation)

    assert (await one.lookup.register(ALICE, invitation)).subject == "u-alice"


async def test_used_invitation_binds_nothing_after_unlink(one: Instance, two: Instance) -> None:
    await one.users.add({"id": "u-alice"})
    invitation = (await one.users.invite("u-alice", {})).secret
    await one.lookup.register(ALICE, invitation)
    used = await one.rows(t.invitations)

    await one.users.unlink("u-alice", fields(ALICE))
    async with (
        one.database.write_transaction() as connection
    ):  # restores the row that unlink deleted
        await connection.execute(sa.insert(t.invitations), [dict(row) for row in used])

    for instance in (one, two):
        with pytest.raises(InvalidInvitation):
            await instance.lookup.register(ALICE, invitation)
    assert await one.rows(t.identities) == []


async def test_unlink_revokes_only_invitations_of_the_user(one: Instance) -> None:
    await add_user(one, "u-alice", ALICE)
    await add_user(one, "u-bob")
    alice_invitation = (await one.users.invite("u-alice", {})).secret
    bob_invitation = (await one.users.invite("u-bob", {})).secret

    await one.users.unlink("u-alice", fields(ALICE))

    with pytest.raises(InvalidInvitation):
        await one.lookup.register(ALICE, alice_invitation)
    assert (await one.lookup.register(BOB, bob_invitation)).subject == "u-bob"


async def test_failed_unlink_revokes_no_invitation(one: Instance) -> None:
    await add_user(one, "u-alice")
    invitation = (await one.users.invite("u-alice", {})).secret

    with pytest.raises(IdentityNotFound):
        await one.users.unlink("u-alice", fields(ALICE))

    assert (await one.lookup.register(ALICE, invitation)).subject == "u-alice"


async def test_expired_invitations_are_deleted(one: Instance, clock: Clock) -> None:
    for number in range(3):
        await one.users.add({"id": f"u-{number}"})
        await one.users.invite(f"u-{number}", {"expires_in": 60})
        clock.time += 60

    assert [row["user_id"] for row in await one.rows(t.invitations)] == ["u-2"]


async def test_invitation_secret_is_not_in_the_database(
    one: Instance, records_url: str, request: pytest.FixtureRequest
) -> None:
    await one.users.add({"id": "u-alice"})
    secret = (await one.users.invite("u-alice", {})).secret
    await one.lookup.register(ALICE, secret)

    if records_url.startswith("sqlite"):
        with closing(sqlite3.connect(records_url.partition(":///")[2])) as connection:
            dumped = "\n".join(connection.iterdump())
    else:
        dumped = request.getfixturevalue("postgres").dump(records_url)

    assert ALICE.id in dumped
    assert secret not in dumped
    assert secret.encode().hex() not in dumped.lower()


# --- administration


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
        await add_user(one, f"u-{number}", Identity("pretend", f"person-{number}"))

    pages = [await one.users.list(after=after, limit=2) for after in ("", "u-1", "u-3", "u-4")]

    assert [[user.id for user in page] for page in pages] == [
        ["u-0", "u-1"],
        ["u-2", "u-3"],
        ["u-4"],
        [],
    ]
    assert [one.id for one in pages[1][0].identities] == ["person-2"]


async def test_repeated_link_has_no_effect(one: Instance) -> None:
    await add_user(one, "u-alice", ALICE)

    again = await one.users.link("u-alice", fields(ALICE))

    assert again.identities == (ALICE,)


INVALID_ACTS: list[tuple[Callable[[SqlUserAdmin], Awaitable[object]], type[BrokerError]]] = [
    (lambda users: users.get("unknown"), UserNotFound),
    (lambda users: users.get("un\0known"), UserNotFound),
    (lambda users: users.update("unknown", {"name": "x"}), UserNotFound),
    (lambda users: users.remove("unknown"), UserNotFound),
    (lambda users: users.link("unknown", fields(ALICE)), UserNotFound),
    (lambda users: users.unlink("unknown", fields(ALICE)), UserNotFound),
    (lambda users: users.invite("unknown", {}), UserNotFound),
    (lambda users: users.unlink("u-bob", fields(ALICE)), IdentityNotFound),
    (lambda users: users.add({"id": "u-bob"}), UserAlreadyExists),
    (lambda users: users.add({"id": "-x"}), InvalidUser),
    (lambda users: users.add({"id": "x" * 65}), InvalidUser),
    (lambda users: users.add({"name": ""}), InvalidUser),
    (lambda users: users.add({"colour": "red"}), InvalidUser),
    (lambda users: users.update("u-bob", {"id": "u-robert"}), InvalidUser),
    (lambda users: users.update("u-bob", {"blocked": 1}), InvalidUser),
    (lambda users: users.link("u-alice", fields(BOB)), IdentityAlreadyLinked),
    (lambda users: users.link("u-alice", fields(BOB, openid="bob-in-blue")), IdentityAlreadyLinked),
    (lambda users: users.link("u-alice", fields(ALICE, provider="alipay")), InvalidUser),
    (lambda users: users.link("u-alice", fields(ALICE, openid="\0")), InvalidUser),
    (lambda users: users.link("u-alice", {"provider": "wechat", "openid": "x"}), InvalidUser),
    (lambda users: users.invite("u-alice", {"expires_in": 0}), InvalidUser),
    (lambda users: users.invite("u-alice", {"expires_in": True}), InvalidUser),
    (lambda users: users.invite("u-alice", {"expires_in": 10**9}), InvalidUser),
]


async def test_invalid_act_raises_and_changes_nothing(one: Instance) -> None:
    await add_user(one, "u-alice")
    await add_user(one, "u-bob", BOB)
    before = await one.users.list()

    for act, kind in INVALID_ACTS:
        with pytest.raises(kind):
            await act(one.users)

    assert await one.users.list() == before
    assert await one.rows(t.invitations) == []


# --- locks and outages


async def test_failed_lookups_do_not_wait_for_writers(one: Instance, two: Instance) -> None:
    await add_user(one, "u-alice", ALICE)

    async with two.database.write_transaction() as connection:
        await lock_identities(connection)
        assert (await one.find(ALICE)).subject == "u-alice"
        with pytest.raises(UnregisteredUser):
            await one.find(BOB)
        with pytest.raises(InvalidInvitation):
            await one.lookup.register(BOB, "made-up")


@pytest.mark.parametrize("records_url", ["postgresql"], indirect=True)
async def test_database_outage_does_not_make_users_unregistered(
    one: Instance, stoppable_postgres: PostgresServer
) -> None:
    await add_user(one, "u-alice", ALICE)

    stoppable_postgres.stop()
    for identity in (ALICE, ALICE_IN_BLUE, BOB):
        with pytest.raises(RecordsUnavailable) as down:
            await one.find(identity)
        assert down.value.body()["retry_after"] == 2

    stoppable_postgres.start()
    assert (await one.find(ALICE)).subject == "u-alice"


async def test_lookup_returns_the_claims_of_a_user(one: Instance) -> None:
    claims = {
        "name": "Alice",
        "preferred_username": "alice",
        "email": "alice@shop.example",
        "email_verified": True,
        "phone_number": "+8613800138000",
        "groups": ["staff", "admins"],
    }
    user = await one.users.add(claims)
    await one.users.link(user.id, fields(ALICE))

    profile = await one.find(ALICE)

    assert profile == UserProfile(
        subject=user.id,
        **{**claims, "groups": ("admins", "staff")},  # type: ignore[arg-type]
    )


async def test_new_email_address_is_not_verified(one: Instance) -> None:
    user = await one.users.add({"email": "alice@shop.example", "email_verified": True})

    renamed = await one.users.update(user.id, {"name": "Alice"})
    moved = await one.users.update(user.id, {"email": "alice@other.example"})
    verified = await one.users.update(user.id, {"email_verified": True})

    flags = [changed.profile.email_verified for changed in (renamed, moved, verified)]
    assert flags == [True, None, True]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("groups", ["g"] * 101),
        ("groups", ["g" * 65]),
        ("email", "alice"),
        ("email_verified", "true"),
        ("phone_number", "138"),
        ("picture", "ftp://shop.example/a.png"),
    ],
)
async def test_malformed_claim_is_refused(one: Instance, name: str, value: object) -> None:
    with pytest.raises(InvalidUser, match=name):
        await one.users.add({name: value})
