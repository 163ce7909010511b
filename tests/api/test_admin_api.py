"""Tests of the calls for operators at the admin port, with one instance."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from broker.infrastructure.api.authorization import OPERATOR
from broker.infrastructure.api.endpoint import ADMIN
from broker.infrastructure.observability.feed import WATCHERS_MAX
from tests.support.app_admin import TOKEN, Admin
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import Payload, PhoneClient
from tests.support.endpoints import DECLARED
from tests.support.logins import new_login
from tests.support.waiting import eventually

CALLS = [
    (endpoint.method, endpoint.path)
    for endpoint in DECLARED
    if endpoint.role == ADMIN and endpoint.auth is OPERATOR
]


@pytest.fixture
async def broker(start_broker: StartBroker) -> RunningBroker:
    return await start_broker("sql", admin_token=TOKEN, app_name="Café")


@pytest.fixture
async def admin(broker: RunningBroker) -> AsyncIterator[Admin]:
    async with Admin(broker.admin) as admin:
        yield admin


async def test_call_without_token_is_refused(broker: RunningBroker) -> None:
    refused = []
    async with aiohttp.ClientSession(broker.admin) as http:
        for method, path in CALLS:
            async with http.request(method, re.sub(r"{[^}]*}", "x", path)) as response:
                refused.append((response.status, (await response.json())["error"]))

    assert refused == [(401, "invalid_client")] * len(CALLS)


async def test_wrong_tokens_count_as_failed_attempts(start_broker: StartBroker) -> None:
    broker = await start_broker(admin_token=TOKEN, misses_per_minute=2)

    async with Admin(broker.admin, "x" * 32) as wrong, Admin(broker.admin) as right:
        statuses = [(await wrong.ask("GET", "/instances")).status for _ in range(4)]
        served = await right.ask("GET", "/instances")

    assert statuses == [401, 401, 429, 429]
    assert served.status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:9000", 200),
        ("[::1]:9000", 200),
        ("admin.example", 200),
        ("evil.example", 403),
        ("192.0.2.1", 403),
        ("127.0.0.1.evil.example", 403),
        ("[", 403),
    ],
)
async def test_foreign_host_is_refused(start_broker: StartBroker, host: str, status: int) -> None:
    broker = await start_broker(admin_token=TOKEN, admin_url="https://admin.example")

    async with aiohttp.ClientSession(broker.admin, headers={"Host": host}) as http:
        async with http.get("/instances", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert answer.status == status
        async with http.get("/") as page:
            assert page.status == status
        async with http.get("/metrics") as metrics:
            assert metrics.status == 200


async def test_waiting_login_is_listed_by_app_and_state(
    broker: RunningBroker, admin: Admin
) -> None:
    async with new_login(broker) as login, PhoneClient(broker.url, "alice") as phone:
        await phone.post("scan", {"scene": login.scene})
        listed = (await admin.ask("GET", "/logins?app=default&state=scanned")).body
        other_state = (await admin.ask("GET", "/logins?state=pending")).body
        other_app = (await admin.ask("GET", "/logins?app=red")).body

    [one] = listed["logins"]
    assert one["login_id"] == login.named["login_id"]
    assert (one["app"], one["state"], one["ip"]) == ("default", "scanned", "127.0.0.1")
    assert (listed["total"], listed["missing"]) == (1, [])
    assert (other_state["logins"], other_app["logins"]) == ([], [])


async def test_login_list_has_pages(broker: RunningBroker, admin: Admin) -> None:
    async with new_login(broker), new_login(broker), new_login(broker):
        first = (await admin.ask("GET", "/logins?limit=2")).body
        second = (await admin.ask("GET", f"/logins?limit=2&after={first['next']}")).body

    ids = [one["login_id"] for page in (first, second) for one in page["logins"]]
    assert len(ids) == len(set(ids)) == 3
    assert "next" not in second


async def test_operator_ends_a_login(broker: RunningBroker, admin: Admin) -> None:
    async with new_login(broker) as login:
        login_id = login.named["login_id"]

        ended = await admin.ask("DELETE", f"/logins/{login_id}")
        event, payload = await login.heard()
        again = await admin.ask("DELETE", f"/logins/{login_id}")

    assert ended.status == 204
    assert (event, payload["login_id"]) == ("login-expired", login_id)
    assert (again.status, again.body["error"]) == (404, "not_found")


async def test_session_is_listed_and_ended(broker: RunningBroker, admin: Admin) -> None:
    async with PhoneClient(broker.url, "alice") as phone:
        listed = (await admin.ask("GET", "/sessions?app=default&openid=alice")).body["sessions"]
        ended = await admin.ask("DELETE", f"/sessions/{listed[0]['id']}")
        after = await phone.post("scan", {"scene": "x"})
        again = await admin.ask("DELETE", f"/sessions/{listed[0]['id']}")

    assert [(one["app"], one["openid"]) for one in listed] == [("default", "alice")]
    assert ended.status == 204
    assert (after.status, after.body["error"]) == (401, "invalid_session")
    assert again.status == 404


async def test_settings_have_sources_and_no_secrets(admin: Admin) -> None:
    listed = (await admin.ask("GET", "/config")).body["settings"]

    settings = {one["name"]: one for one in listed}
    assert settings["app_name"] == {"name": "app_name", "value": "Café", "source": "option"}
    assert settings["pool_size"]["source"] == "default"
    assert settings["admin_token"]["value"] == "**********"


async def test_keys_are_rotated_only_with_force_at_first(admin: Admin) -> None:
    before = (await admin.ask("GET", "/keys")).body["signing"]
    await admin.ask("POST", "/keys/rotate", {"now": True})

    early = await admin.ask("POST", "/keys/rotate", {})
    after = (await admin.ask("GET", "/keys")).body["signing"]

    def kids(keys: list[Payload], status: str) -> set[str]:
        return {key["kid"] for key in keys if key["status"] == status}

    assert (early.status, early.body["error"]) == (409, "conflict")
    assert kids(after, "present") == kids(before, "next")
    assert kids(after, "former") == kids(before, "present")


async def test_pool_is_filled_on_request(start_broker: StartBroker) -> None:
    broker = await start_broker(admin_token=TOKEN, code_source="pool", pool_size=1, pool_max=1)
    async with Admin(broker.admin) as admin:
        started = await admin.ask("POST", "/pool/default/fill", {"count": 4})
        pool: Payload = {}

        async def is_filled() -> bool:
            pool.update((await admin.ask("GET", "/pool")).body["pools"][0])
            return int(pool["free"]) == 4

        await eventually(is_filled)
        unknown = await admin.ask("POST", "/pool/red/fill", {"count": 4})

    assert started.status == 202
    assert (pool["app"], pool["free"], "error" in pool) == ("default", 4, False)
    assert (unknown.status, unknown.body["error"]) == (404, "not_found")


async def test_instance_reports_its_load(broker: RunningBroker, admin: Admin) -> None:
    async with new_login(broker):
        answer = (await admin.ask("GET", "/instances")).body

    [one] = answer["instances"]
    assert answer["answered_by"] == one["instance"]
    assert (one["ready"], one["waiting"], one["tunnels"]) == (True, 1, 0)
    assert "browser" in one["roles"]


class EventReader:
    """Reads server-sent events."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self, kind: str) -> Any:
        """Return the data of the next event of this kind."""
        async with asyncio.timeout(30):
            async for line in self._response.content:
                if line == b"event: %b\n" % kind.encode():
                    data = await self._response.content.readline()
                    return json.loads(data.removeprefix(b"data: "))
        raise AssertionError("the stream has ended")


async def test_events_name_changes_of_logins(broker: RunningBroker, admin: Admin) -> None:
    async with admin.http.get("/events") as response:
        await response.content.readline()  # the stream has begun
        events = EventReader(response)
        async with new_login(broker) as login, PhoneClient(broker.url, "alice") as phone:
            begun = await events.next("login")
            await phone.post("scan", {"scene": login.scene})
            scanned = await events.next("login")

    named = {"id": login.named["login_id"], "app": "default"}
    assert response.headers["Content-Type"] == "text/event-stream"
    assert begun == {"state": "pending", **named}
    assert scanned == {"state": "scanned", **named}


async def test_watcher_is_refused_until_another_leaves(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.admin.events_api.KEEP_ALIVE_INTERVAL", 0.05)
    streams = [await admin.http.get("/events") for _ in range(WATCHERS_MAX)]

    refused = await admin.ask("GET", "/events")
    streams[0].close()

    async def is_served() -> bool:
        async with admin.http.get("/events") as stream:
            return stream.status == 200

    assert (refused.status, refused.body["error"]) == (429, "rate_limited")
    await eventually(is_served)
    for stream in streams:
        stream.close()


async def test_act_is_logged_with_its_actor(admin: Admin) -> None:
    with capture_logs() as logs:
        await admin.ask("POST", "/users", {"id": "carol"})
        await admin.ask("GET", "/users/carol")
        await admin.ask("DELETE", "/users/carol")

    acts = [
        (one["actor"], one["act"], one["target"]) for one in logs if one["event"] == "admin act"
    ]
    assert acts == [
        ("token", "POST /users", "carol"),
        ("token", "DELETE /users/{id}", "carol"),
    ]


async def test_page_has_a_strict_policy_and_no_cors(admin: Admin, broker: RunningBroker) -> None:
    async with admin.http.get("/", headers={"Origin": "https://evil.example"}) as page:
        policy = page.headers["Content-Security-Policy"]

        assert page.status == 200
        assert "Access-Control-Allow-Origin" not in page.headers
        assert "Set-Cookie" not in page.headers
    assert policy == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"connect-src 'self' {broker.url}; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


@pytest.mark.parametrize("name", ["other.js", "..%2Fadmin.js", "texts.js%00"])
async def test_unknown_module_of_the_page_is_missing(admin: Admin, name: str) -> None:
    assert (await admin.ask("GET", f"/admin/{name}")).status == 404


async def test_port_without_token_has_no_page(start_broker: StartBroker) -> None:
    broker = await start_broker()
    paths = ("/", "/admin.js", "/admin/texts.js", "/api", "/logins")

    async with aiohttp.ClientSession(broker.admin) as http:
        statuses = [(await http.get(path)).status for path in paths]

    assert statuses == [404] * len(paths)
