"""Tests of the broker's own users, from the browser, the phone and the admin port."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from broker.users.rules import IDENTITY_RULES, USER_RULES
from mp_stub.wechat.platform import MiniProgram, person_id
from tests.support.app_admin import ODD, TOKEN, Admin
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import Answer, PhoneClient, PythonBrowser, SocketPhone
from tests.support.commands import serving
from tests.support.environment import free_port
from tests.support.logins import new_login
from tests.support.wechat import APPID, pretending

REGISTER = "https://shop.example/register"


@pytest.fixture
async def broker(start_broker: StartBroker, records_url: str) -> RunningBroker:
    return await start_broker(
        "sql", records_url=records_url, admin_token=TOKEN, register_url=REGISTER
    )


@pytest.fixture
async def admin(broker: RunningBroker) -> AsyncIterator[Admin]:
    async with Admin(broker.admin) as admin:
        yield admin


async def invite(admin: Admin, **user: object) -> str:
    """Create a user and return an invitation."""
    added = await admin.ask("POST", "/users", user)
    answer = await admin.ask("POST", f"/users/{added.body['id']}/invite", {})
    return str(answer.body["invitation"])


# --- whole logins


async def test_unknown_user_registers_and_confirms_the_same_code(
    broker: RunningBroker, admin: Admin
) -> None:
    async with new_login(broker) as login, PhoneClient(broker.url, "alice") as phone:
        await phone.post("scan", {"scene": login.scene})
        unregistered = await phone.post("confirm", login.named)
        invitation = await invite(admin, id="u-alice", name="Alice")
        registered = await phone.post("register", {"invitation": invitation})
        confirmed = await phone.post("confirm", login.named)
        events = [await login.heard() for _ in range(3)]
        subject = await login.subject()

    assert (unregistered.status, unregistered.body["error"]) == (403, "unregistered_user")
    assert unregistered.body["register_url"] == REGISTER
    assert registered == Answer(200, {"subject": "u-alice", "name": "Alice"}, registered.headers)
    assert registered.headers["Cache-Control"] == "no-store"
    assert confirmed.body["state"] == "confirmed"
    assert events == [
        ("login-scanned", login.named),
        ("login-unregistered", {**login.named, "register_url": REGISTER}),
        ("login-confirmed", login.named),
    ]
    assert subject == "u-alice"


async def test_phone_on_a_socket_may_register(broker: RunningBroker, admin: Admin) -> None:
    invitation = await invite(admin, id="u-alice")
    async with PhoneClient(broker.url, "alice") as phone, new_login(broker) as login:
        browser = PythonBrowser(["websocket"])
        socket = SocketPhone(browser)
        await socket.connect(broker.url, phone.session)
        registered = await socket.post("register", {"invitation": invitation})
        await socket.post("scan", {"scene": login.scene})
        await socket.post("confirm", login.named)
        await browser.close()

        assert registered.body == {"subject": "u-alice", "name": None}
        assert await login.subject() == "u-alice"


async def test_blocked_user_ends_the_login_for_phone_and_browser(
    broker: RunningBroker, admin: Admin
) -> None:
    await admin.ask("POST", "/users", {"id": "u-alice"})
    alice = {"provider": "pretend", "provider_app_id": "", "openid": "alice"}
    await admin.ask("POST", "/users/u-alice/link", alice)
    await admin.ask("PATCH", "/users/u-alice", {"blocked": True})
    async with new_login(broker) as login, PhoneClient(broker.url, "alice") as phone:
        await phone.post("scan", {"scene": login.scene})
        refused = await phone.post("confirm", login.named)
        events = [await login.heard() for _ in range(2)]
        redeemed = await login.redeem()
    assert (refused.status, refused.body["error"]) == (403, "access_denied")
    assert events[1] == ("login-denied", {**login.named, "refused": True})
    assert (redeemed["error"], redeemed["refused"]) == ("access_denied", True)

    await admin.ask("PATCH", "/users/u-alice", {"blocked": False})
    async with new_login(broker) as login, PhoneClient(broker.url, "alice") as phone:
        await phone.post("scan", {"scene": login.scene})
        await phone.post("confirm", login.named)
        assert await login.subject() == "u-alice"


async def test_user_has_one_subject_in_two_mini_programs(
    start_broker: StartBroker, records_url: str
) -> None:
    other = "wx00000000000other"
    async with pretending() as wechat:
        platform = wechat.wechat.platform
        platform.programs[other] = MiniProgram(other, "other-secret")
        shared = {"records_url": records_url, "admin_token": TOKEN}
        red = await start_broker("sql", **wechat.settings(**shared))
        blue = await start_broker(
            "sql",
            **wechat.settings(wechat_appid=other, wechat_secret="other-secret", **shared),
        )
        async with Admin(red.admin) as admin:
            invitation = await invite(admin, id="u-alice")
            subjects = []
            for broker, appid in ((red, APPID), (blue, other)):
                js_code = platform.login("alice", appid)
                async with (
                    new_login(broker) as login,
                    PhoneClient(broker.url, js_code=js_code) as phone,
                ):
                    await phone.post("register", {"invitation": invitation})
                    await phone.post("scan", {"scene": login.scene})
                    await phone.post("confirm", login.named)
                    subjects.append(await login.subject())
            user = await admin.ask("GET", "/users/u-alice")

    assert subjects == ["u-alice", "u-alice"]
    assert [one["provider_app_id"] for one in user.body["identities"]] == [APPID, other]
    assert {one["unionid"] for one in user.body["identities"]} == {person_id("", "alice")}
    assert len({one["openid"] for one in user.body["identities"]}) == 2


# --- invitations on the phone


async def test_unknown_invitations_are_refused_alike_and_rate_limited(
    start_broker: StartBroker,
) -> None:
    broker = await start_broker("sql", misses_per_minute=3)
    async with PhoneClient(broker.url, "mallory") as phone:
        answers = [await phone.post("register", {"invitation": f"x{i}"}) for i in range(5)]

    assert [(one.status, one.body["error"]) for one in answers] == [
        *[(400, "invalid_grant")] * 3,
        *[(429, "rate_limited")] * 2,
    ]
    assert len({str(one.body) for one in answers[:3]}) == 1


@pytest.mark.parametrize("invitation", [None, "", 7, "x" * 200, "a b", "\0", ["x"]])
async def test_malformed_invitation_is_refused(
    start_broker: StartBroker, invitation: object
) -> None:
    broker = await start_broker("sql")
    async with PhoneClient(broker.url, "mallory") as phone:
        answer = await phone.post("register", {"invitation": invitation})
    assert (answer.status, answer.body["error"]) == (400, "invalid_request")


async def test_registration_needs_a_session(start_broker: StartBroker) -> None:
    broker = await start_broker("sql")
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.post("/phone/register", json={"invitation": "x"}) as response,
    ):
        assert (response.status, (await response.json())["error"]) == (401, "invalid_session")


# --- the admin port


async def test_user_is_added_changed_and_removed(admin: Admin) -> None:
    added = await admin.ask("POST", "/users", {"id": "alice@shop.example", "name": "Alice"})
    path = "/users/alice@shop.example"
    identity = {
        "provider": "pretend",
        "provider_app_id": "",
        "openid": "alice",
        "unionid": "alice-in-all",
    }
    linked = await admin.ask("POST", f"{path}/link", identity)
    changed = await admin.ask("PATCH", path, {"name": None, "blocked": True})
    invitation = await admin.ask("POST", f"{path}/invite", {"expires_in": 60})

    assert (added.status, linked.status, changed.status) == (201, 200, 200)
    assert linked.body["identities"] == [identity]
    assert (changed.body["name"], changed.body["blocked"]) == (None, True)
    assert (invitation.status, invitation.body["expires_in"]) == (201, 60)
    assert invitation.headers["Cache-Control"] == "no-store"
    assert (await admin.ask("GET", path)).body == changed.body
    assert (await admin.ask("GET", "/users/alice%40shop.example")).body == changed.body
    assert (await admin.ask("GET", "/users")).body == {"users": [changed.body]}

    unlinked = await admin.ask("POST", f"{path}/unlink", identity)
    assert unlinked.body["identities"] == []
    assert (await admin.ask("DELETE", path)).status == 204
    assert (await admin.ask("GET", "/users")).body == {"users": []}


async def test_requests_without_fields_need_no_body(admin: Admin) -> None:
    added = await admin.ask("POST", "/users")
    invitation = await admin.ask("POST", f"/users/{added.body['id']}/invite")

    assert (added.status, invitation.status) == (201, 201)


async def test_users_are_listed_in_pages(admin: Admin) -> None:
    for number in range(5):
        await admin.ask("POST", "/users", {"id": f"u-{number}"})

    first = await admin.ask("GET", "/users?limit=3")
    rest = await admin.ask("GET", f"/users?limit=3&after={first.body['next']}")

    assert [one["id"] for one in first.body["users"]] == ["u-0", "u-1", "u-2"]
    assert [one["id"] for one in rest.body["users"]] == ["u-3", "u-4"]
    assert "next" not in rest.body


ALICE = {"provider": "pretend", "provider_app_id": "", "openid": "alice"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("POST", "/users", {"id": "u-alice"}, 409, "user_exists"),
        ("POST", "/users", {"id": 7}, 400, "invalid_request"),
        ("POST", "/users", ["u"], 400, "invalid_request"),
        ("PATCH", "/users/u-alice", {"colour": "dark"}, 400, "invalid_request"),
        ("PATCH", "/users/unknown", {"name": "x"}, 404, "unknown_user"),
        ("GET", "/users/unknown", None, 404, "unknown_user"),
        ("GET", "/users/%00", None, 404, "unknown_user"),
        ("GET", "/users?limit=0", None, 400, "invalid_request"),
        ("GET", "/users?limit=1000", None, 400, "invalid_request"),
        ("GET", "/users?after=%00", None, 400, "invalid_request"),
        ("DELETE", "/users/unknown", None, 404, "unknown_user"),
        ("POST", "/users/u-bob/link", ALICE, 409, "identity_taken"),
        ("POST", "/users/u-bob/link", {"openid": "x"}, 400, "invalid_request"),
        ("POST", "/users/u-bob/unlink", ALICE, 404, "unknown_identity"),
        ("POST", "/users/unknown/invite", {}, 404, "unknown_user"),
        ("POST", "/users/u-bob/invite", {"expires_in": "60"}, 400, "invalid_request"),
    ],
)
async def test_invalid_request_has_its_error(
    admin: Admin, method: str, path: str, body: object, status: int, error: str
) -> None:
    for name in ("u-alice", "u-bob"):
        await admin.ask("POST", "/users", {"id": name})
    await admin.ask("POST", "/users/u-alice/link", ALICE)

    answer = await admin.ask(method, path, body)

    assert (answer.status, answer.body["error"]) == (status, error)


@pytest.mark.parametrize("name", [*USER_RULES, *IDENTITY_RULES, "expires_in", "colour", "\ud800"])
async def test_unusual_value_never_causes_a_server_error(admin: Admin, name: str) -> None:
    await admin.ask("POST", "/users", {"id": "u-alice"})
    for value in ODD:
        for method, path, body in [
            ("POST", "/users", {"id": "odd", name: value}),
            ("PATCH", "/users/u-alice", {name: value}),
            ("POST", "/users/u-alice/link", {**ALICE, name: value}),
            ("POST", "/users/u-alice/unlink", {**ALICE, name: value}),
            ("POST", "/users/u-alice/invite", {name: value}),
        ]:
            answer = await admin.ask(method, path, body)
            assert answer.status in (200, 201, 400, 404, 409), (path, value, answer.body)


async def test_wrong_token_is_refused_on_every_path(broker: RunningBroker) -> None:
    async with Admin(broker.admin, "wrong") as unauthorized:
        for method, path in [
            ("GET", "/users"),
            ("POST", "/users"),
            *((method, "/users/u-alice") for method in ("GET", "PATCH", "DELETE")),
            *(("POST", f"/users/u-alice/{verb}") for verb in ("link", "unlink", "invite")),
        ]:
            answer = await unauthorized.ask(method, path, {})
            assert (answer.status, answer.body["error"]) == (401, "invalid_client")


async def test_users_api_is_absent_with_another_directory(
    start_broker: StartBroker,
) -> None:
    broker = await start_broker(admin_token=TOKEN)
    async with Admin(broker.admin) as admin:
        assert (await admin.ask("GET", "/users")).status == 404


# --- secrets in the output


async def test_invitation_appears_in_no_output(tmp_path: Path) -> None:
    port = free_port()
    variables = {
        "SCAN_LOGIN_PORT": "0",
        "SCAN_LOGIN_ADMIN_PORT": str(port),
        "SCAN_LOGIN_ADMIN_TOKEN": TOKEN,
        "SCAN_LOGIN_DIRECTORY": "sql",
        "SCAN_LOGIN_LOG_LEVEL": "debug",
    }
    answers: list[object] = []
    with serving(tmp_path, **variables) as (process, line):
        url = line.split(" ready on ")[1].split()[0]
        async with Admin(f"http://127.0.0.1:{port}") as admin:
            used, unused = [await invite(admin, id=name) for name in ("u-alice", "u-bob")]
            for name, invitation in [("alice", used), ("bob", used), ("alice", unused)]:
                async with PhoneClient(url, name) as phone:
                    answers.append(await phone.post("register", {"invitation": invitation}))
            answers.append(await admin.ask("GET", "/users"))
            async with admin.http.get("/metrics") as metrics:
                answers.append(await metrics.text())
            with closing(sqlite3.connect(tmp_path / "scan-login.db")) as database:
                answers.append("\n".join(database.iterdump()))
                database.execute("DROP TABLE invitations")
            async with PhoneClient(url, "bob") as phone:
                answers.append(await phone.post("register", {"invitation": unused}))
            assert answers[-1].status == 503  # type: ignore[attr-defined]
        process.terminate()
        answers.extend(await asyncio.to_thread(process.communicate))

    output = "\n".join(map(str, answers))
    assert "user changed" in output
    assert "u-alice" in output
    for secret in (used, unused):
        assert secret not in output
        assert secret.encode().hex() not in output.lower()


# --- phone numbers


async def test_shared_phone_number_is_stored_as_verified(
    broker: RunningBroker, admin: Admin
) -> None:
    invitation = await invite(admin, id="u-alice")
    async with PhoneClient(broker.url, "alice") as phone:
        await phone.post("register", {"invitation": invitation})

        shared = await phone.post("phone-number", {"code": "pretend:+8613800138000"})

    user = (await admin.ask("GET", "/users/u-alice")).body
    assert shared.body == {"phone_number": "+8613800138000"}
    assert (user["phone_number"], user["phone_number_verified"]) == ("+8613800138000", True)


@pytest.mark.parametrize("code", ["pretend:", "pretend:13800138000", "pretend:+0138", "x"])
async def test_wrong_phone_number_code_changes_nothing(
    broker: RunningBroker, admin: Admin, code: str
) -> None:
    invitation = await invite(admin, id="u-alice")
    async with PhoneClient(broker.url, "alice") as phone:
        await phone.post("register", {"invitation": invitation})

        refused = await phone.post("phone-number", {"code": code})

    assert (refused.status, refused.body["error"]) == (400, "invalid_grant")
    assert (await admin.ask("GET", "/users/u-alice")).body["phone_number"] is None


async def test_unregistered_person_cannot_store_a_phone_number(broker: RunningBroker) -> None:
    async with PhoneClient(broker.url, "alice") as phone:
        refused = await phone.post("phone-number", {"code": "pretend:+8613800138000"})

    assert (refused.status, refused.body["error"]) == (403, "unregistered_user")


async def test_open_directory_stores_no_phone_number(start_broker: StartBroker) -> None:
    broker = await start_broker()
    async with PhoneClient(broker.url, "alice") as phone:
        refused = await phone.post("phone-number", {"code": "pretend:+8613800138000"})

    assert (refused.status, refused.body["error"]) == (400, "invalid_request")


# --- invitations as codes


async def test_invitation_has_a_code_with_its_link(broker: RunningBroker, admin: Admin) -> None:
    await admin.ask("POST", "/users", {"id": "u-alice"})

    invited = (await admin.ask("POST", "/users/u-alice/invite", {"app": "default"})).body
    unknown = await admin.ask("POST", "/users/u-alice/invite", {"app": "unknown"})

    assert len(invited["invitation"]) == 30
    assert invited["link"] == f"http://127.0.0.1:8090/?scene=i.{invited['invitation']}"
    assert invited["code_url"].startswith("data:image/svg+xml;base64,")
    assert (unknown.status, unknown.body["error"]) == (400, "invalid_request")
