"""Tests of the session API for the servers of apps: authorization, responses, limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp
import pytest
from yarl import URL

from tests.support.app_admin import TOKEN
from tests.support.builders import FixedDirectory, RunningBroker, StartBroker
from tests.support.clients import Payload, PhoneClient
from tests.support.session_server import Server, basic, secret_of

CALLS = ("/sessions", "/sessions/check", "/sessions/verify", "/sessions/decrypt")
ENDS = ("/sessions/end", "/sessions/end-all")
SIGNED = {"raw_data": "text", "signature": "0" * 40}
ENCRYPTED = {"encrypted_data": "A" * 24, "iv": "A" * 24}


class SessionApi(NamedTuple):
    broker: RunningBroker
    http: aiohttp.ClientSession
    red: Server
    blue: Server

    def server(self, authorization: str) -> Server:
        return Server(self.http, authorization)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


async def build_api(broker: RunningBroker, http: aiohttp.ClientSession) -> SessionApi:
    http._base_url = URL(broker.url)
    red, blue = [
        Server(http, basic(name, await secret_of(broker, name))) for name in ("red", "blue")
    ]
    return SessionApi(broker, http, red, blue)


@pytest.fixture
async def api(start_broker: StartBroker, http: aiohttp.ClientSession) -> SessionApi:
    broker = await start_broker(
        FixedDirectory("alice"), admin_token=TOKEN, misses_per_minute=10, session_idle=3_600
    )
    return await build_api(broker, http)


async def test_server_opens_and_checks_a_session(api: SessionApi) -> None:
    opened = (await api.red.ask("/sessions", js_code="pretend:alice")).body
    session = {"id": opened["id"], "skey": opened["skey"]}

    checked = await api.red.ask("/sessions/check", **session)

    claims = {
        "app": "red",
        "openid": "alice",
        "subject": "user-alice",
        "expires_in": pytest.approx(3_600, abs=60),
    }
    assert opened == {**session, **claims}
    assert (checked.status, checked.body) == (200, claims)
    assert checked.headers["Cache-Control"] == "no-store"


async def test_server_can_check_a_session_of_the_phone(api: SessionApi) -> None:
    async with PhoneClient(api.broker.url, app="red") as phone:
        session = {"id": phone.session["id"], "skey": phone.session["skey"]}
        assert (await api.red.ask("/sessions/check", **session)).body["openid"] == "alice"
        assert (await api.red.ask("/sessions/end", **session)).body == {"ended": 1}
        assert (await phone.post("scan", {"scene": "x"})).body["error"] == "invalid_session"


async def test_session_of_an_unknown_user_has_no_subject(api: SessionApi) -> None:
    session = await api.red.open("unknown")

    assert "subject" not in (await api.red.ask("/sessions/check", **session)).body


async def test_server_ends_one_or_all_sessions_of_a_user(api: SessionApi) -> None:
    first, second, third = [await api.red.open() for _ in range(3)]
    bob_session, blue_session = (
        await api.red.open("bob"),
        await api.blue.open(),
    )

    assert (await api.red.ask("/sessions/end", **first)).body == {"ended": 1}
    assert (await api.red.ask("/sessions/end-all", openid="alice")).body == {"ended": 2}
    assert (await api.red.ask("/sessions/end-all", openid="alice")).body == {"ended": 0}
    for session in (first, second, third):
        assert (await api.red.ask("/sessions/check", **session)).status == 401
    assert (await api.red.ask("/sessions/check", **bob_session)).status == 200
    assert (await api.blue.ask("/sessions/check", **blue_session)).status == 200


async def test_session_of_another_app_is_unknown(api: SessionApi) -> None:
    session = await api.red.open()
    for path, more in {
        "/sessions/check": {},
        "/sessions/verify": SIGNED,
        "/sessions/decrypt": ENCRYPTED,
        "/sessions/end": {},
    }.items():
        other_app = await api.blue.ask(path, **session, **more)
        unknown = await api.blue.ask(path, **{**session, "id": "unknown"}, **more)

        assert (other_app.status, other_app.body["error"]) == (401, "invalid_session")
        assert (other_app.status, other_app.body) == (unknown.status, unknown.body)
    assert (await api.red.ask("/sessions/check", **session)).status == 200


async def test_provider_without_signatures_refuses_verification(
    api: SessionApi,
) -> None:
    session = await api.red.open()

    for path, more in {"/sessions/verify": SIGNED, "/sessions/decrypt": ENCRYPTED}.items():
        answer = await api.red.ask(path, **session, **more)
        assert (answer.status, answer.body["error"]) == (400, "invalid_request")
        assert "neither signatures nor encryption" in answer.body["error_description"]


@pytest.mark.parametrize("path", [*CALLS, *ENDS])
async def test_call_without_app_secret_is_refused(api: SessionApi, path: str) -> None:
    session = {
        **await api.red.open(),
        **SIGNED,
        **ENCRYPTED,
        "openid": "alice",
        "js_code": "x",
    }
    correct = api.red.shows
    for authorization in [
        "",
        "Basic",
        "Basic *",
        "Basic cmVk",
        basic("red", ""),
        basic("red", "wrong"),
        basic("unknown", "wrong"),
        basic("", ""),
        basic("default", ""),
        correct.replace("Basic", "Bearer"),
        "Bearer wrong",
        f"Bearer {session['id']}.{session['skey']}",
    ]:
        answer = await api.server(authorization).ask(path, **session, app="red")
        assert (answer.status, answer.body["error"]) == (401, "invalid_client"), authorization
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="sessions"'


async def test_admin_token_acts_for_the_named_app(api: SessionApi) -> None:
    admin = api.server(f"Bearer {TOKEN}")
    session = await api.red.open()
    default_session = await admin.open(app="default")

    assert (await admin.ask("/sessions/check", app="red", **session)).body["app"] == "red"
    assert (await admin.ask("/sessions/check", app="default", **default_session)).status == 200
    for app, status, error in [
        ("blue", 401, "invalid_session"),
        ("unknown", 401, "invalid_client"),
        (None, 400, "invalid_request"),
    ]:
        answer = await admin.ask("/sessions/check", **session, app=app)
        assert (answer.status, answer.body["error"]) == (status, error)


async def test_bearer_is_refused_without_admin_token(
    start_broker: StartBroker, http: aiohttp.ClientSession
) -> None:
    broker = await start_broker()
    for token in ("", "None"):
        server = Server(http, f"Bearer {token}")
        answer = await server.ask(f"{broker.url}/sessions", js_code="pretend:a", app="default")
        assert answer.body["error"] == "invalid_client"


async def test_app_in_the_body_must_match_the_secret(api: SessionApi) -> None:
    session = await api.red.open()

    assert (await api.red.ask("/sessions/check", **session, app="red")).status == 200
    answer = await api.blue.ask("/sessions/check", **session, app="red")
    assert (answer.status, answer.body["error"]) == (400, "invalid_request")


async def test_checks_of_ended_sessions_do_not_limit_the_server(
    api: SessionApi,
) -> None:
    session = await api.red.open()
    for number in range(30):
        ended = {"id": f"ended-{number}", "skey": "x"}
        assert (await api.red.ask("/sessions/check", **ended)).status == 401

    assert (await api.red.ask("/sessions/check", **session)).status == 200


async def test_wrong_app_secret_is_limited_and_correct_one_served(
    api: SessionApi,
) -> None:
    session = await api.red.open()
    client = api.server(basic("red", "guess"))

    statuses = [(await client.ask("/sessions/check", id="x", skey="x")).status for _ in range(12)]

    assert statuses == [401] * 10 + [429] * 2
    assert (await api.red.ask("/sessions/check", **session)).status == 200


async def test_request_without_credentials_counts_as_no_attempt(
    api: SessionApi,
) -> None:
    page = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    for _ in range(12):
        async with api.http.post("/sessions/check", data=b"{}", headers=page) as response:
            assert response.status == 401
            assert "Access-Control-Allow-Origin" not in response.headers
    async with api.http.options("/sessions/check", headers=page) as response:
        assert response.status == 405


async def test_server_may_open_ten_times_the_begin_limit(
    start_broker: StartBroker, http: aiohttp.ClientSession
) -> None:
    broker = await start_broker(admin_token=TOKEN, begins_per_minute=1)
    api = await build_api(broker, http)

    statuses = [(await api.red.ask("/sessions", js_code="pretend:a")).status for _ in range(11)]

    assert statuses == [200] * 10 + [429]
    assert (await api.blue.ask("/sessions", js_code="pretend:a")).status == 200


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/sessions", {}, "js_code"),
        ("/sessions", {"js_code": "x" * 257}, "js_code"),
        ("/sessions/check", {"id": "x"}, "skey"),
        ("/sessions/verify", {"id": "x", "skey": "x", **SIGNED, "signature": "x"}, "signature"),
        ("/sessions/verify", {"id": "x", "skey": "x", **SIGNED, "raw_data": "x" * 16_385}, "raw"),
        ("/sessions/decrypt", {"id": "x", "skey": "x", **ENCRYPTED, "iv": "A"}, "iv"),
        (
            "/sessions/decrypt",
            {"id": "x", "skey": "x", **ENCRYPTED, "encrypted_data": "A" * 16_385},
            "encrypted_data",
        ),
        ("/sessions/end-all", {"openid": ""}, "openid"),
    ],
)
async def test_refusal_names_the_invalid_field(
    api: SessionApi, path: str, body: Payload, field: str
) -> None:
    answer = await api.red.ask(path, **body)

    assert (answer.status, answer.body["error"]) == (400, "invalid_request")
    assert field in answer.body["error_description"]
