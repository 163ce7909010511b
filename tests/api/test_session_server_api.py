"""Sessions for apps' own servers, over HTTP: who may ask, what is told, what is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp
import pytest

from tests.support.app_admin import TOKEN
from tests.support.builders import FixedDirectory, RunningBroker, StartBroker
from tests.support.clients import Payload, PhoneClient
from tests.support.session_server import Server, basic, secret_of

CALLS = ("/sessions", "/sessions/check", "/sessions/verify", "/sessions/decrypt")
ENDS = ("/sessions/end", "/sessions/end-all")
SIGNED = {"raw_data": "text", "signature": "0" * 40}
ENCRYPTED = {"encrypted_data": "A" * 24, "iv": "A" * 24}


class Town(NamedTuple):
    broker: RunningBroker
    http: aiohttp.ClientSession
    red: Server
    blue: Server

    def server(self, shows: str) -> Server:
        return Server(self.http, shows)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


async def build_town(broker: RunningBroker, http: aiohttp.ClientSession) -> Town:
    http._base_url = aiohttp.client.URL(broker.url)
    red, blue = [
        Server(http, basic(name, await secret_of(broker, name))) for name in ("red", "blue")
    ]
    return Town(broker, http, red, blue)


@pytest.fixture
async def town(start_broker: StartBroker, http: aiohttp.ClientSession) -> Town:
    broker = await start_broker(
        FixedDirectory("alice"), admin_token=TOKEN, misses_per_minute=10, session_idle=3_600
    )
    return await build_town(broker, http)


async def test_a_server_logs_its_phone_in_and_asks_who_that_is(town: Town) -> None:
    opened = (await town.red.ask("/sessions", js_code="pretend:alice")).body
    shown = {"id": opened["id"], "skey": opened["skey"]}

    checked = await town.red.ask("/sessions/check", **shown)

    who = {
        "app": "red",
        "openid": "alice",
        "subject": "user-alice",
        "expires_in": pytest.approx(3_600, abs=60),
    }
    assert opened == {**shown, **who}
    assert (checked.status, checked.body) == (200, who)
    assert checked.headers["Cache-Control"] == "no-store"


async def test_a_phones_own_session_is_the_servers_too(town: Town) -> None:
    async with PhoneClient(town.broker.url, app="red") as phone:
        shown = {"id": phone.session["id"], "skey": phone.session["skey"]}
        assert (await town.red.ask("/sessions/check", **shown)).body["openid"] == "alice"
        assert (await town.red.ask("/sessions/end", **shown)).body == {"ended": 1}
        assert (await phone.post("scan", {"scene": "x"})).body["error"] == "invalid_session"


async def test_who_is_nobody_here_has_no_subject(town: Town) -> None:
    shown = await town.red.open("stranger")

    assert "subject" not in (await town.red.ask("/sessions/check", **shown)).body


async def test_a_server_ends_one_session_or_all_of_a_person(town: Town) -> None:
    first, second, third = [await town.red.open() for _ in range(3)]
    bobs, at_blue = await town.red.open("bob"), await town.blue.open()

    assert (await town.red.ask("/sessions/end", **first)).body == {"ended": 1}
    assert (await town.red.ask("/sessions/end-all", openid="alice")).body == {"ended": 2}
    assert (await town.red.ask("/sessions/end-all", openid="alice")).body == {"ended": 0}
    for shown in (first, second, third):
        assert (await town.red.ask("/sessions/check", **shown)).status == 401
    assert (await town.red.ask("/sessions/check", **bobs)).status == 200
    assert (await town.blue.ask("/sessions/check", **at_blue)).status == 200


async def test_a_session_is_nothing_to_another_app_and_told_as_unknown(town: Town) -> None:
    reds = await town.red.open()
    for path, more in {
        "/sessions/check": {},
        "/sessions/verify": SIGNED,
        "/sessions/decrypt": ENCRYPTED,
        "/sessions/end": {},
    }.items():
        theirs = await town.blue.ask(path, **reds, **more)
        unknown = await town.blue.ask(path, **{**reds, "id": "unknown"}, **more)

        assert (theirs.status, theirs.body["error"]) == (401, "invalid_session")
        assert (theirs.status, theirs.body) == (unknown.status, unknown.body)
    assert (await town.red.ask("/sessions/check", **reds)).status == 200


async def test_a_provider_that_signs_nothing_says_so(town: Town) -> None:
    shown = await town.red.open()

    for path, more in {"/sessions/verify": SIGNED, "/sessions/decrypt": ENCRYPTED}.items():
        answer = await town.red.ask(path, **shown, **more)
        assert (answer.status, answer.body["error"]) == (400, "invalid_request")
        assert "neither signatures nor encryption" in answer.body["error_description"]


@pytest.mark.parametrize("path", [*CALLS, *ENDS])
async def test_without_the_apps_secret_nothing_is_told(town: Town, path: str) -> None:
    shown = {**await town.red.open(), **SIGNED, **ENCRYPTED, "openid": "alice", "js_code": "x"}
    right = town.red.shows
    for shows in [
        "",
        "Basic",
        "Basic *",
        "Basic cmVk",
        basic("red", ""),
        basic("red", "wrong"),
        basic("nobody", "wrong"),
        basic("", ""),
        basic("default", ""),
        right.replace("Basic", "Bearer"),
        "Bearer wrong",
        f"Bearer {shown['id']}.{shown['skey']}",
    ]:
        answer = await town.server(shows).ask(path, **shown, app="red")
        assert (answer.status, answer.body["error"]) == (401, "invalid_client"), shows
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="sessions"'


async def test_the_admin_token_speaks_for_the_app_that_it_names(town: Town) -> None:
    operator = town.server(f"Bearer {TOKEN}")
    reds = await town.red.open()
    own = await operator.open(app="default")

    assert (await operator.ask("/sessions/check", app="red", **reds)).body["app"] == "red"
    assert (await operator.ask("/sessions/check", app="default", **own)).status == 200
    for app, status, word in [
        ("blue", 401, "invalid_session"),
        ("nobody", 401, "invalid_client"),
        (None, 400, "invalid_request"),
    ]:
        answer = await operator.ask("/sessions/check", **reds, app=app)
        assert (answer.status, answer.body["error"]) == (status, word)


async def test_without_an_admin_token_no_bearer_is_one(
    start_broker: StartBroker, http: aiohttp.ClientSession
) -> None:
    broker = await start_broker()
    for shown in ("", "None"):
        server = Server(http, f"Bearer {shown}")
        answer = await server.ask(f"{broker.url}/sessions", js_code="pretend:a", app="default")
        assert answer.body["error"] == "invalid_client"


async def test_a_body_cannot_name_another_app_than_the_secret(town: Town) -> None:
    reds = await town.red.open()

    assert (await town.red.ask("/sessions/check", **reds, app="red")).status == 200
    answer = await town.blue.ask("/sessions/check", **reds, app="red")
    assert (answer.status, answer.body["error"]) == (400, "invalid_request")


async def test_users_whose_sessions_have_ended_do_not_lock_their_server_out(town: Town) -> None:
    shown = await town.red.open()
    for number in range(30):
        gone = {"id": f"gone-{number}", "skey": "x"}
        assert (await town.red.ask("/sessions/check", **gone)).status == 401

    assert (await town.red.ask("/sessions/check", **shown)).status == 200


async def test_wrong_app_secret_is_limited_and_correct_one_served(town: Town) -> None:
    shown = await town.red.open()
    guesser = town.server(basic("red", "guess"))

    seen = [(await guesser.ask("/sessions/check", id="x", skey="x")).status for _ in range(12)]

    assert seen == [401] * 10 + [429] * 2
    assert (await town.red.ask("/sessions/check", **shown)).status == 200


async def test_a_page_that_sends_no_credentials_spends_nobodys_tries(town: Town) -> None:
    page = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    for _ in range(12):
        async with town.http.post("/sessions/check", data=b"{}", headers=page) as response:
            assert response.status == 401
            assert "Access-Control-Allow-Origin" not in response.headers
    async with town.http.options("/sessions/check", headers=page) as response:
        assert response.status == 405


async def test_what_a_server_opens_is_counted_by_app_ten_times_as_high(
    start_broker: StartBroker, http: aiohttp.ClientSession
) -> None:
    broker = await start_broker(admin_token=TOKEN, begins_per_minute=1)
    town = await build_town(broker, http)

    seen = [(await town.red.ask("/sessions", js_code="pretend:a")).status for _ in range(11)]

    assert seen == [200] * 10 + [429]
    assert (await town.blue.ask("/sessions", js_code="pretend:a")).status == 200


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
async def test_a_refusal_names_the_field_that_is_wrong(
    town: Town, path: str, body: Payload, field: str
) -> None:
    answer = await town.red.ask(path, **body)

    assert (answer.status, answer.body["error"]) == (400, "invalid_request")
    assert field in answer.body["error_description"]
