"""Many apps in one broker: written down over the admin port, and nothing to one another."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing, nullcontext
from pathlib import Path

import aiohttp
import jwt
import pytest

from broker.apps.rules import FIELD_RULES
from tests.support.app_admin import ODD, RED, SECRET, TOKEN, Admin, page, phone_of, post
from tests.support.builders import FixedDirectory, RunningBroker, StartBroker
from tests.support.clients import Payload, Refused
from tests.support.commands import serving
from tests.support.device_flow import GRANT
from tests.support.environment import free_port
from tests.support.waiting import eventually

BLUE: Payload = {
    "id": "blue",
    "name": "Blue",
    "origins": ["https://blue.example"],
    "register_url": "https://blue.example/register",
    "login_lifetime": 90,
}


@pytest.fixture
async def broker(start_broker: StartBroker) -> RunningBroker:
    return await start_broker(admin_token=TOKEN, directory=FixedDirectory("alice"))


@pytest.fixture
async def admin(broker: RunningBroker) -> AsyncIterator[Admin]:
    admin = Admin(broker.admin)
    yield admin
    await admin.http.close()


@pytest.fixture
async def apps(admin: Admin) -> None:
    for app in (RED, BLUE):
        assert (await admin.ask("POST", "/apps", app)).status == 201


# --- the admin port


async def test_app_is_added_changed_and_removed(admin: Admin) -> None:
    added = await admin.ask("POST", "/apps", RED)
    assert added.status == 201
    assert "provider_secret" not in added.body
    assert {**added.body, "provider_secret": SECRET, **RED} == {
        **added.body,
        "provider_secret": SECRET,
    }
    assert added.body["has_provider_secret"] is True
    assert added.headers["Cache-Control"] == "no-store"

    changed = await admin.ask("PATCH", "/apps/red", {"name": "Crimson", "provider_secret": None})
    assert (changed.body["name"], changed.body["has_provider_secret"]) == ("Crimson", False)
    assert changed.body["origins"] == RED["origins"]
    assert (await admin.ask("GET", "/apps/red")).body == changed.body
    assert (await admin.ask("GET", "/apps")).body == {"apps": [changed.body]}

    rotated = await admin.ask("POST", "/apps/red/rotate-secret")
    assert len(rotated.body["api_secret"]) == 43
    assert (await admin.ask("GET", "/apps/red")).body["has_api_secret"] is True

    assert (await admin.ask("DELETE", "/apps/red")).status == 204
    assert (await admin.ask("GET", "/apps")).body == {"apps": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word"),
    [
        ("POST", "/apps", {"id": "red", "name": "Again"}, 409, "app_exists"),
        ("POST", "/apps", {"id": "default", "name": "x"}, 400, "invalid_request"),
        ("POST", "/apps", {"id": "green"}, 400, "invalid_request"),
        ("POST", "/apps", {"id": 7, "name": "x"}, 400, "invalid_request"),
        ("POST", "/apps", {"name": "x"}, 400, "invalid_request"),
        ("POST", "/apps", ["red"], 400, "invalid_request"),
        ("PATCH", "/apps/red", {"origins": ["*"]}, 400, "invalid_request"),
        ("PATCH", "/apps/red", {"colour": "dark"}, 400, "invalid_request"),
        ("PATCH", "/apps/red", {"id": "blue"}, 400, "invalid_request"),
        ("PATCH", "/apps/nobody", {"name": "x"}, 404, "unknown_app"),
        ("GET", "/apps/nobody", None, 404, "unknown_app"),
        ("GET", "/apps/%00", None, 404, "invalid_request"),
        ("DELETE", "/apps/nobody", None, 404, "unknown_app"),
        ("POST", "/apps/nobody/rotate-secret", None, 404, "unknown_app"),
    ],
)
async def test_what_cannot_be_is_said(
    admin: Admin, apps: None, method: str, path: str, body: object, status: int, word: str
) -> None:
    answer = await admin.ask(method, path, body)

    assert (answer.status, answer.body["error"]) == (status, word)
    assert len((await admin.ask("GET", "/apps")).body["apps"]) == 2


@pytest.mark.parametrize("name", [*FIELD_RULES, "colour", "\ud800"])
async def test_no_value_is_too_odd_to_be_answered(admin: Admin, apps: None, name: str) -> None:
    for value in ODD:
        for method, path, body in [
            ("PATCH", "/apps/red", {name: value}),
            ("POST", "/apps", {"id": "odd", "name": "Odd", name: value}),
        ]:
            answer = await admin.ask(method, path, body)
            assert answer.status in (200, 201, 400, 409), (method, value, answer.body)
    listed = await admin.ask("GET", "/apps")
    assert {app["id"] for app in listed.body["apps"]} >= {"red", "blue"}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 50_000, b'"' + b"x" * 70_000 + b'"'])
async def test_a_body_that_is_no_json_is_said_to_be_none(admin: Admin, body: bytes) -> None:
    async with admin.http.post("/apps", data=body) as response:
        assert (response.status, (await response.json())["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", "ü"])
async def test_nothing_is_told_or_done_without_the_token(
    broker: RunningBroker, apps: None, token: str | None
) -> None:
    stranger = Admin(broker.admin, None)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with stranger.http:
        for method, path in [
            ("GET", "/apps"),
            ("GET", "/apps/red"),
            ("GET", "/apps/nobody"),
            ("POST", "/apps"),
            ("PATCH", "/apps/red"),
            ("DELETE", "/apps/red"),
            ("POST", "/apps/red/rotate-secret"),
        ]:
            async with stranger.http.request(method, path, headers=headers) as response:
                assert (response.status, (await response.json())["error"]) == (
                    401,
                    "invalid_client",
                )
                assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_without_a_token_set_there_are_no_such_paths(start_broker: StartBroker) -> None:
    broker = await start_broker()
    stranger = Admin(broker.admin)
    async with stranger.http:
        assert (await stranger.ask("GET", "/apps")).status == 404


async def test_apps_cannot_be_changed_where_browsers_come(broker: RunningBroker) -> None:
    outside = Admin(broker.url)
    async with outside.http:
        assert (await outside.ask("GET", "/apps")).status == 404


# --- apps beside one another


async def test_each_apps_pages_come_from_its_own_origins(broker: RunningBroker, apps: None) -> None:
    for app, origin, welcome in [
        ("red", "https://red.example", True),
        ("red", "https://blue.example", False),
        ("blue", "https://blue.example", True),
        ("blue", "https://red.example", False),
        ("default", "https://red.example", False),
    ]:
        with nullcontext() if welcome else pytest.raises(Refused, match="invalid_client"):
            async with page(broker, app, origin):
                pass


async def test_lifetimes_names_and_register_pages_are_each_apps_own(
    broker: RunningBroker, apps: None
) -> None:
    async with aiohttp.ClientSession(broker.url) as http:
        for app in (RED, BLUE):
            async with page(broker, app["id"], app["origins"][0]) as browser:
                new_login = await browser.emit("begin", {})
                phone = await phone_of(http, app["id"], "mallory")
                scanned = await post(http, "/phone/scan", phone, scene=new_login["scene"])
                login = {"login_id": new_login["login_id"]}
                refused = await post(http, "/phone/confirm", phone, **login)
                assert await browser.push() == ("login-scanned", login)
                pushed = await browser.push()

            assert new_login["expires_in"] == pytest.approx(app["login_lifetime"], abs=20)
            assert scanned["app"] == {"id": app["id"], "name": app["name"]}
            assert refused["register_url"] == app["register_url"]
            told = {**login, "register_url": app["register_url"]}
            assert pushed == ("login-unregistered", told)


async def test_a_login_a_session_and_a_token_are_nothing_to_another_app(
    broker: RunningBroker, apps: None
) -> None:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(broker.url))
        red = await stack.enter_async_context(page(broker, "red", "https://red.example"))
        blue = await stack.enter_async_context(page(broker, "blue", "https://blue.example"))
        new_login = await red.emit("begin", {})
        login = {"login_id": new_login["login_id"]}
        owned = {**login, "secret": new_login["secret"]}
        code = f"{new_login['login_id']}.{new_login['secret']}"
        reds, blues = [await phone_of(http, app, "alice") for app in ("red", "blue")]

        scanned = await post(http, "/phone/scan", blues, scene=new_login["scene"])
        assert scanned["error"] == "unknown_scene"
        await post(http, "/phone/scan", reds, scene=new_login["scene"])
        for verb in ("confirm", "deny"):
            answer = await post(http, f"/phone/{verb}", blues, **login)
            assert answer["error"] == "invalid_grant"
        assert (await post(http, "/phone/confirm", reds, **login))["state"] == "confirmed"

        for event in ("resume", "redeem", "cancel"):
            assert (await blue.emit(event, owned))["error"] == "invalid_grant"
        form = {"grant_type": GRANT, "device_code": code}
        answer = await post(http, "/oauth/token", client_id="blue", **form)
        assert answer["error"] == "invalid_grant"

        token = (await red.emit("redeem", owned))["access_token"]

    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["aud"], claims["client_id"]) == ("red", "red")


async def test_nothing_begins_for_an_app_that_was_removed(
    broker: RunningBroker, admin: Admin, apps: None
) -> None:
    async with page(broker, "red", "https://red.example") as browser:
        new_login = await browser.emit("begin", {})
        await admin.ask("DELETE", "/apps/red")

        assert (await browser.emit("begin", {}))["error"] == "invalid_client"
        resumed = await browser.emit(
            "resume", {"login_id": new_login["login_id"], "secret": new_login["secret"]}
        )
        assert resumed["state"] == "pending"
    with pytest.raises(Refused):
        async with page(broker, "red", "https://red.example"):
            pass


async def test_the_settings_own_app_needs_no_database(broker: RunningBroker, admin: Admin) -> None:
    async with page(broker, "default", broker.url) as browser:
        assert "scene" in await browser.emit("begin", {})


# --- canaries


async def test_no_secret_is_exposed(tmp_path: Path) -> None:
    port = free_port()
    variables = {
        "SCAN_LOGIN_PORT": "0",
        "SCAN_LOGIN_ADMIN_PORT": str(port),
        "SCAN_LOGIN_ADMIN_TOKEN": TOKEN,
        "SCAN_LOGIN_LOG_LEVEL": "debug",
    }
    answers: list[object] = []
    with serving(tmp_path, **variables) as (process, _):
        admin = Admin(f"http://127.0.0.1:{port}")
        async with admin.http:
            answers.append(await admin.ask("POST", "/apps", RED))
            answers.append(await admin.ask("POST", "/apps", RED))
            for wrong in ([SECRET], SECRET + "\n"):
                change = {"provider_secret": wrong}
                answers.append(await admin.ask("PATCH", "/apps/red", change))
            own = (await admin.ask("POST", "/apps/red/rotate-secret")).body["api_secret"]
            answers.append(await admin.ask("GET", "/apps"))
            async with admin.http.get(
                "/apps", headers={"Authorization": f"Bearer {own}"}
            ) as refused:
                answers.append(await refused.text())
            async with admin.http.get("/metrics") as metrics:
                answers.append(await metrics.text())
            with closing(sqlite3.connect(tmp_path / "scan-login.db")) as database:
                answers.append("\n".join(database.iterdump()))
                database.execute("DROP TABLE apps")
                database.execute("UPDATE changes SET number = number + 1 WHERE what = 'apps'")
                database.commit()
            answers.append(await admin.ask("POST", "/apps", {**RED, "id": "broken"}))
            assert answers[-1].status == 503  # type: ignore[attr-defined]
            await eventually(lambda: has_noticed_broken_records(admin))
        process.terminate()
        answers.extend(await asyncio.to_thread(process.communicate))

    said = "\n".join(map(str, answers))
    assert "app changed" in said
    for secret in (SECRET, own, TOKEN):
        assert secret not in said
        assert secret.encode().hex() not in said.lower()


async def has_noticed_broken_records(admin: Admin) -> bool:
    """Whether the broker has tried to read the apps again."""
    async with admin.http.get("/metrics") as metrics:
        return "scanlogin_records_down 1.0" in await metrics.text()
