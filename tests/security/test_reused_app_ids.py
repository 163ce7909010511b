"""An app with the id of a removed app is a new app, without data of the removed one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import aiohttp
import pytest
import sqlalchemy as sa

from broker.apps.model import APP_KEY_MAX, app_key
from broker.pool.model import OfferedCode
from broker.records import tables as t
from broker.records.database import Database
from broker.records.settings import RecordsSettings
from broker.state import StateBackend
from tests.support.app_admin import RED, TOKEN, Admin, page, phone_of, post
from tests.support.builders import (
    FIREFOX,
    SHOP,
    FixedDirectory,
    LoginMethods,
    RunningBroker,
    StartBroker,
)
from tests.support.clients import Payload
from tests.support.device_flow import GRANT
from tests.support.records import database_of
from tests.support.servers.redis import Engines
from tests.support.session_server import Server, basic
from tests.support.waiting import eventually

NEW_ORIGIN = "https://new.example"
BACKENDS = {"memory": "sqlite", "redis": "postgresql"}
"""Records backend by state backend."""


@pytest.fixture(params=BACKENDS)
def backend_settings(request: pytest.FixtureRequest, engines: Engines) -> Payload:
    """Settings of a broker over one kind of state and records."""
    engines.empty(request.param)
    return {
        "state_url": engines.url(request.param),
        "records_url": database_of(BACKENDS[request.param], request),
    }


@pytest.fixture
async def broker(backend_settings: Payload, start_broker: StartBroker) -> RunningBroker:
    return await start_broker(FixedDirectory("alice"), admin_token=TOKEN, **backend_settings)


@pytest.fixture
async def admin(broker: RunningBroker) -> AsyncIterator[Admin]:
    async with Admin(broker.admin) as admin:
        assert (await admin.ask("POST", "/apps", RED)).status == 201
        yield admin


@pytest.fixture
async def http(broker: RunningBroker) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(broker.url) as http:
        yield http


async def replace_app(admin: Admin) -> None:
    """Remove the app `red`, and add another under its id."""
    assert (await admin.ask("DELETE", "/apps/red")).status == 204
    answer = await admin.ask("POST", "/apps", {**RED, "origins": [NEW_ORIGIN]})
    assert answer.status == 201


async def begin(http: aiohttp.ClientSession) -> Payload:
    return await post(http, "/oauth/device_authorization", client_id="red")


def redeem_form(login: Payload) -> Payload:
    return {"client_id": "red", "grant_type": GRANT, "device_code": login["device_code"]}


async def test_sessions_of_removed_app_are_invalid(
    admin: Admin, http: aiohttp.ClientSession
) -> None:
    former = await phone_of(http, "red", "alice")
    session_id, _, skey = former["Authorization"].partition(" ")[2].partition(".")
    await replace_app(admin)
    secret = (await admin.ask("POST", "/apps/red/rotate-secret")).body["api_secret"]
    server = Server(http, basic("red", secret))
    login = await begin(http)

    refused = await post(http, "/phone/scan", former, scene=login["user_code"])
    checked = await server.ask("/sessions/check", id=session_id, skey=skey)
    scanned = await post(
        http, "/phone/scan", await phone_of(http, "red", "alice"), scene=login["user_code"]
    )

    assert refused["error"] == checked.body["error"] == "invalid_session"
    assert scanned["state"] == "scanned"


async def test_logins_of_removed_app_end(admin: Admin, http: aiohttp.ClientSession) -> None:
    phone = await phone_of(http, "red", "alice")
    pending, scanned, confirmed = [await begin(http) for _ in range(3)]
    names = [
        (await post(http, "/phone/scan", phone, scene=one["user_code"]))["login_id"]
        for one in (scanned, confirmed)
    ]
    await post(http, "/phone/confirm", phone, login_id=names[1])

    await replace_app(admin)
    phone = await phone_of(http, "red", "alice")
    scan = await post(http, "/phone/scan", phone, scene=pending["user_code"])
    confirm = await post(http, "/phone/confirm", phone, login_id=names[0])
    redeem = await post(http, "/oauth/token", **redeem_form(confirmed))

    assert scan["error"] == "unknown_scene"
    assert confirm["error"] == redeem["error"] == "invalid_grant"


async def test_token_of_removed_app_is_not_active(
    admin: Admin, http: aiohttp.ClientSession
) -> None:
    """A token without a sign-in session belongs to no grant that ends with the app."""
    active = []
    for replaces in (False, True):
        login, phone = await begin(http), await phone_of(http, "red", "alice")
        scanned = await post(http, "/phone/scan", phone, scene=login["user_code"])
        await post(http, "/phone/confirm", phone, login_id=scanned["login_id"])
        token = (await post(http, "/oauth/token", **redeem_form(login)))["access_token"]
        if replaces:
            await replace_app(admin)
        secret = (await admin.ask("POST", "/apps/red/rotate-secret")).body["api_secret"]
        server = {"Authorization": basic("red", secret)}
        active.append((await post(http, "/oauth/introspect", server, token=token))["active"])

    assert active == [True, False]


async def test_login_of_removed_app_can_be_confirmed(
    admin: Admin, http: aiohttp.ClientSession
) -> None:
    phone = await phone_of(http, "red", "alice")
    login = await begin(http)
    scanned = await post(http, "/phone/scan", phone, scene=login["user_code"])

    await admin.ask("DELETE", "/apps/red")
    confirmed = await post(http, "/phone/confirm", phone, login_id=scanned["login_id"])

    assert confirmed["state"] == "confirmed"


async def test_page_of_removed_app_cannot_begin(broker: RunningBroker, admin: Admin) -> None:
    async with page(broker, "red", "https://red.example") as former:
        await replace_app(admin)

        refused = await former.emit("begin", {})
        async with page(broker, "red", NEW_ORIGIN) as current:
            login = await current.emit("begin", {})

    assert refused["error"] == "invalid_client"
    assert "scene" in login


async def test_audit_trail_distinguishes_apps_with_one_id(
    broker: RunningBroker, admin: Admin, http: aiohttp.ClientSession
) -> None:
    for _ in range(2):
        phone = await phone_of(http, "red", "alice")
        denied, confirmed = [await begin(http) for _ in range(2)]
        scanned = await post(http, "/phone/scan", phone, scene=denied["user_code"])
        await post(http, "/phone/deny", phone, login_id=scanned["login_id"])
        scanned = await post(http, "/phone/scan", phone, scene=confirmed["user_code"])
        await post(http, "/phone/confirm", phone, login_id=scanned["login_id"])
        await post(http, "/oauth/token", **redeem_form(confirmed))
        await post(http, "/phone/report", phone, login_id=scanned["login_id"])
        await replace_app(admin)
    async with AsyncExitStack() as stack:
        database = Database(broker.settings[RecordsSettings].records_url)
        stack.push_async_callback(database.close)

        async def rows() -> list[tuple[str | None, str]]:
            async with database.read_connection() as connection:
                columns = (t.ended_logins.c.app_incarnation, t.ended_logins.c.state)
                entries = sa.select(*columns).where(t.ended_logins.c.app == "red")
                return [tuple(row) for row in await connection.execute(entries)]

        await eventually(lambda: _has_count(rows, 6), within=30)
        found = await rows()

    incarnations = {incarnation for incarnation, _ in found} - {None}
    assert len(incarnations) == 2
    states = ("denied", "redeemed", "reported")
    assert sorted(found) == sorted((one, state) for one in incarnations for state in states)


async def _has_count(rows: object, count: int) -> bool:
    return len(await rows()) == count  # type: ignore[operator]


@pytest.mark.parametrize("backend_settings", ["redis"], indirect=True)
async def test_data_from_before_incarnations_stays_valid(
    broker: RunningBroker, admin: Admin, http: aiohttp.ClientSession, engines: Engines
) -> None:
    await _delete_incarnations(broker, admin)
    phone = await phone_of(http, "red", "alice")
    login = await begin(http)
    changed = 0
    [node] = engines.nodes("redis")
    with node.client() as client:
        for key in client.scan_iter("scanlogin:*"):
            if client.type(key) == b"string":
                stored = client.get(key)
                client.set(key, stored.replace(b',"incarnation":""', b""), keepttl=True)
                changed += client.get(key) != stored

    scanned = await post(http, "/phone/scan", phone, scene=login["user_code"])
    await post(http, "/phone/confirm", phone, login_id=scanned["login_id"])
    token = await post(http, "/oauth/token", **redeem_form(login))

    assert changed == 1  # the session; a stored login has no fields with default values
    assert token["token_type"] == "Bearer"


async def _delete_incarnations(broker: RunningBroker, admin: Admin) -> None:
    """Change the recorded apps to the format from before incarnations."""
    database = Database(broker.settings[RecordsSettings].records_url)
    async with database.write_transaction() as connection:
        await connection.execute(sa.update(t.apps).values(incarnation=None))
    await database.close()
    assert (await admin.ask("PATCH", "/apps/red", {"name": "Red"})).status == 200


async def test_login_leases_code_of_its_incarnation(
    make_login_service: Callable[..., LoginMethods], store: StateBackend
) -> None:
    app = replace(SHOP, code_source="pool", incarnation="1" * 16)
    for key in (SHOP.key, app.key):
        code = OfferedCode(number=0, drawing=0, scene=f"scene of {key}", picture="a.png")
        await store.code_leases.offer(key, [code])
    login_service = make_login_service(apps=[app])

    login, secret, *_ = await login_service.begin("shop", FIREFOX, has_socket=True)
    await login_service.cancel(login.id, secret, app="shop")
    await login_service.close()

    assert login.scene == f"scene of {app.key}"
    assert (await store.code_leases.level(app.key)).resting == 1
    assert (await store.code_leases.level(SHOP.key)).free == 1


def test_app_keys_are_unique_and_fit_their_column() -> None:
    long = "a" * 64

    assert app_key("shop", "") == "shop"
    assert app_key("shop", "0" * 16) == "shop~" + "0" * 16
    assert len(app_key(long, "0" * 16)) == APP_KEY_MAX == 64
    assert app_key(long, "0" * 16) != app_key(long, "1" * 16)
