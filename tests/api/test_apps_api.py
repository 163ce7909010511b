"""Tests of apps: created over the admin port, and isolated from each other."""

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
    async with Admin(broker.admin) as admin:
        yield admin


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
    ("method", "path", "body", "status", "error"),
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
        (
            "PATCH",
            "/apps/red",
            {"provider": "wechat", "provider_app_id": "wxbad"},
            400,
            "invalid_request",
        ),
        ("PATCH", "/apps/unknown", {"name": "x"}, 404, "unknown_app"),
        ("GET", "/apps/unknown", None, 404, "unknown_app"),
        ("GET", "/apps/%00", None, 404, "invalid_request"),
        ("DELETE", "/apps/unknown", None, 404, "unknown_app"),
        ("POST", "/apps/unknown/rotate-secret", None, 404, "unknown_app"),
        ("POST", "/apps/unknown/rotate-webhook-secret", None, 404, "unknown_app"),
    ],
)
async def test_invalid_request_has_its_error(
    admin: Admin, apps: None, method: str, path: str, body: object, status: int, error: str
) -> None:
    answer = await admin.ask(method, path, body)

    assert (answer.status, answer.body["error"]) == (status, error)
    assert len((await admin.ask("GET", "/apps")).body["apps"]) == 2


@pytest.mark.parametrize("name", [*FIELD_RULES, "colour", "\ud800"])
async def test_unusual_value_never_causes_a_server_error(
    admin: Admin, apps: None, name: str
) -> None:
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
async def test_body_that_is_not_json_is_refused(admin: Admin, body: bytes) -> None:
    async with admin.http.post("/apps", data=body) as response:
        assert (response.status, (await response.json())["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", "ü"])
async def test_wrong_token_is_refused_on_every_path(
    broker: RunningBroker, apps: None, token: str | None
) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with Admin(broker.admin, None) as unauthorized:
        for method, path in [
            ("GET", "/apps"),
            ("GET", "/apps/red"),
            ("GET", "/apps/unknown"),
            ("POST", "/apps"),
            ("PATCH", "/apps/red"),
            ("DELETE", "/apps/red"),
            ("POST", "/apps/red/rotate-secret"),
            ("POST", "/apps/red/rotate-webhook-secret"),
        ]:
            async with unauthorized.http.request(method, path, headers=headers) as response:
                assert (response.status, (await response.json())["error"]) == (
                    401,
                    "invalid_client",
                )
                assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_each_rotation_returns_another_webhook_secret(admin: Admin, apps: None) -> None:
    path = "/apps/red/rotate-webhook-secret"

    former, current = [(await admin.ask("POST", path)).body["webhook_secret"] for _ in range(2)]

    assert former.startswith("whsec_")
    assert current.startswith("whsec_")
    assert former != current
    assert current not in str((await admin.ask("GET", "/apps/red")).body)


async def test_apps_api_is_absent_without_admin_token(start_broker: StartBroker) -> None:
    broker = await start_broker()
    async with Admin(broker.admin) as unauthorized:
        assert (await unauthorized.ask("GET", "/apps")).status == 404


async def test_apps_api_is_absent_on_the_public_port(broker: RunningBroker) -> None:
    async with Admin(broker.url) as public:
        assert (await public.ask("GET", "/apps")).status == 404


# --- several apps


async def test_app_accepts_pages_of_its_origins_only(broker: RunningBroker, apps: None) -> None:
    for app, origin, is_accepted in [
        ("red", "https://red.example", True),
        ("red", "https://blue.example", False),
        ("blue", "https://blue.example", True),
        ("blue", "https://red.example", False),
        ("default", "https://red.example", False),
    ]:
        with nullcontext() if is_accepted else pytest.raises(Refused, match="invalid_client"):
            async with page(broker, app, origin):
                pass


async def test_app_has_its_lifetime_name_and_register_page(
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
            assert (scanned["app"]["id"], scanned["app"]["name"]) == (app["id"], app["name"])
            assert refused["register_url"] == app["register_url"]
            payload = {**login, "register_url": app["register_url"]}
            assert pushed == ("login-unregistered", payload)


async def test_login_session_and_token_belong_to_one_app(broker: RunningBroker, apps: None) -> None:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(broker.url))
        red = await stack.enter_async_context(page(broker, "red", "https://red.example"))
        blue = await stack.enter_async_context(page(broker, "blue", "https://blue.example"))
        new_login = await red.emit("begin", {})
        login = {"login_id": new_login["login_id"]}
        owned = {**login, "secret": new_login["secret"]}
        code = f"{new_login['login_id']}.{new_login['secret']}"
        red_phone, blue_phone = [await phone_of(http, app, "alice") for app in ("red", "blue")]

        scanned = await post(http, "/phone/scan", blue_phone, scene=new_login["scene"])
        assert scanned["error"] == "unknown_scene"
        await post(http, "/phone/scan", red_phone, scene=new_login["scene"])
        for verb in ("confirm", "deny"):
            answer = await post(http, f"/phone/{verb}", blue_phone, **login)
            assert answer["error"] == "invalid_grant"
        assert (await post(http, "/phone/confirm", red_phone, **login))["state"] == "confirmed"

        for event in ("resume", "redeem", "cancel"):
            assert (await blue.emit(event, owned))["error"] == "invalid_grant"
        form = {"grant_type": GRANT, "device_code": code}
        answer = await post(http, "/oauth/token", None, client_id="blue", **form)
        assert answer["error"] == "invalid_grant"

        token = (await red.emit("redeem", owned))["access_token"]

    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["aud"], claims["client_id"]) == ("red", "red")


async def test_removed_app_begins_no_login(broker: RunningBroker, admin: Admin, apps: None) -> None:
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


async def test_app_from_the_settings_is_always_available(
    broker: RunningBroker, admin: Admin
) -> None:
    async with page(broker, "default", broker.url) as browser:
        assert "scene" in await browser.emit("begin", {})


# --- secrets in the output


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
        async with Admin(f"http://127.0.0.1:{port}") as admin:
            answers.append(await admin.ask("POST", "/apps", RED))
            answers.append(await admin.ask("POST", "/apps", RED))
            for wrong in ([SECRET], SECRET + "\n"):
                change = {"provider_secret": wrong}
                answers.append(await admin.ask("PATCH", "/apps/red", change))
            api_secret = (await admin.ask("POST", "/apps/red/rotate-secret")).body["api_secret"]
            answers.append(await admin.ask("GET", "/apps"))
            async with admin.http.get(
                "/apps", headers={"Authorization": f"Bearer {api_secret}"}
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

    output = "\n".join(map(str, answers))
    assert "app changed" in output
    for secret in (SECRET, api_secret, TOKEN):
        assert secret not in output
        assert secret.encode().hex() not in output.lower()


async def has_noticed_broken_records(admin: Admin) -> bool:
    """Return whether the broker has tried to read the apps again."""
    async with admin.http.get("/metrics") as metrics:
        return "scanlogin_records_down 1.0" in await metrics.text()
