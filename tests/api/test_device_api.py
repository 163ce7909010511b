"""Tests of the device flow (RFC 8628), with a third-party client library."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import aiohttp
import pytest
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from yarl import URL

from broker.infrastructure.rate_limit import RateLimit
from broker.login.limits import USER_CODES_MAX
from tests.support.builders import Clock, FixedDirectory, RunningBroker, StartBroker
from tests.support.clients import PhoneClient, PythonBrowser
from tests.support.device_flow import GRANT
from tests.support.waiting import eventually

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def http(broker: RunningBroker) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(broker.url) as session:
        yield session


async def begin(http: aiohttp.ClientSession) -> dict[str, Any]:
    async with http.post("/oauth/device_authorization", data={"client_id": "default"}) as response:
        assert response.status == 200
        assert response.headers["Cache-Control"] == "no-store"
        new_login: dict[str, Any] = await response.json()
        return new_login


async def poll(http: aiohttp.ClientSession, device_code: str, **changes: str) -> tuple[int, Any]:
    form = {
        "grant_type": GRANT,
        "client_id": "default",
        "device_code": device_code,
        **changes,
    }
    async with http.post("/oauth/token", data=form) as response:
        return response.status, await response.json()


async def test_device_logs_in_through_authlib(broker: RunningBroker) -> None:
    def authlib(device_code: str) -> Any:
        with OAuth2Session("default", token_endpoint_auth_method="none") as client:
            return client.fetch_token(
                f"{broker.url}/oauth/token", grant_type=GRANT, device_code=device_code
            )

    async with aiohttp.ClientSession(broker.url) as http, PhoneClient(broker.url) as phone:
        new_login = await begin(http)
        with pytest.raises(OAuthError) as pending:
            await asyncio.to_thread(authlib, new_login["device_code"])
        await phone.post("scan", {"scene": new_login["user_code"]})
        await phone.post("confirm", {"login_id": new_login["login_id"]})
        token = await asyncio.to_thread(authlib, new_login["device_code"])

    assert pending.value.error == "authorization_pending"
    assert token["token_type"] == "Bearer"
    assert token["access_token"].count(".") == 2


async def test_device_authorization_has_the_documented_fields(
    http: aiohttp.ClientSession, broker: RunningBroker
) -> None:
    new_login = await begin(http)

    assert re.fullmatch(
        "[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", new_login["user_code"]
    )
    assert new_login["app"] == {"name": "Example site", "provider": "pretend"}
    login_id, _, secret = new_login["device_code"].partition(".")
    assert (len(login_id), len(secret)) == (22, 43)
    assert new_login["verification_uri"] == f"{broker.url}/device"
    assert new_login["verification_uri_complete"].endswith(f"?user_code={new_login['user_code']}")
    assert new_login["expires_in"] == pytest.approx(120, abs=20)
    assert new_login["interval"] == 2


async def test_polling_returns_the_state_of_the_login(
    http: aiohttp.ClientSession, broker: RunningBroker
) -> None:
    first, second = await begin(http), await begin(http)
    async with PhoneClient(broker.url) as phone:
        await phone.post("scan", {"scene": second["user_code"]})

    assert (await poll(http, first["device_code"]))[1]["state"] == "pending"
    assert (await poll(http, second["device_code"]))[1]["state"] == "scanned"


async def test_polling_returns_register_url_for_unknown_user(start_broker: StartBroker) -> None:
    directory = FixedDirectory()
    broker = await start_broker(directory, register_url="https://site.example/register")
    async with aiohttp.ClientSession(broker.url) as http, PhoneClient(broker.url) as phone:
        new_login = await begin(http)
        await phone.post("scan", {"scene": new_login["user_code"]})
        await phone.post("confirm", {"login_id": new_login["login_id"]})

        _, answer = await poll(http, new_login["device_code"])

        assert answer["error"] == "authorization_pending"
        assert answer["state"] == "unregistered"
        assert 120 < answer["expires_in"] <= 600
        assert answer["register_url"] == "https://site.example/register"
        directory.known.add("alice")
        await phone.post("confirm", {"login_id": new_login["login_id"]})
        assert (await poll(http, new_login["device_code"]))[0] == 200


async def test_polling_too_fast_returns_slow_down(http: aiohttp.ClientSession) -> None:
    new_login = await begin(http)

    answers = [await poll(http, new_login["device_code"]) for _ in range(2)]

    assert [(status, body["error"]) for status, body in answers] == [
        (400, "authorization_pending"),
        (400, "slow_down"),
    ]


async def test_polling_at_the_interval_is_accepted(
    start_broker: StartBroker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.login.limits.RateLimit", partial(RateLimit, clock=clock))
    broker = await start_broker()
    async with aiohttp.ClientSession(broker.url) as http:
        new_login = await begin(http)

        for _ in range(3):
            assert (await poll(http, new_login["device_code"]))[1][
                "error"
            ] == "authorization_pending"
            clock.time += new_login["interval"] - 0.1


async def test_denied_and_expired_devices_are_refused(
    start_broker: StartBroker, http: aiohttp.ClientSession, broker: RunningBroker
) -> None:
    new_login = await begin(http)
    async with PhoneClient(broker.url) as phone:
        await phone.post("scan", {"scene": new_login["user_code"]})
        await phone.post("deny", {"login_id": new_login["login_id"]})
    status, body = await poll(http, new_login["device_code"])
    assert (status, body["error"]) == (400, "access_denied")

    quick = await start_broker(login_lifetime=1)
    async with aiohttp.ClientSession(quick.url) as session:
        new_login = await begin(session)

        async def has_expired() -> bool:
            answer = await poll(session, new_login["device_code"])
            return (answer[0], answer[1]["error"]) == (400, "expired_token")

        await eventually(has_expired)


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/device_authorization"])
async def test_unknown_client_gets_401_with_basic_challenge(
    http: aiohttp.ClientSession, path: str
) -> None:
    form = {"grant_type": GRANT, "client_id": "unknown", "device_code": "x.y"}

    async with http.post(path, data=form) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == 'Basic realm="scan-login"'
        assert (await response.json())["error"] == "invalid_client"


async def test_rate_limited_device_gets_429_with_retry_after(start_broker: StartBroker) -> None:
    broker = await start_broker(begins_per_minute=1)
    async with aiohttp.ClientSession(broker.url) as http:
        await begin(http)

        form = {"client_id": "default"}
        async with http.post("/oauth/device_authorization", data=form) as response:
            assert (response.status, (await response.json())["error"]) == (429, "rate_limited")
            assert int(response.headers["Retry-After"]) > 0


async def test_login_begun_by_socket_continues_by_polling(broker: RunningBroker) -> None:
    """A browser whose socket closes continues by polling for its login."""
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)
    new_login = await browser.emit("begin", {})
    await browser.close()

    async with PhoneClient(broker.url) as phone, aiohttp.ClientSession(broker.url) as http:
        await phone.post("scan", {"scene": new_login["scene"]})
        await phone.post("confirm", {"login_id": new_login["login_id"]})
        status, token = await poll(http, f"{new_login['login_id']}.{new_login['secret']}")

    assert status == 200
    assert token["subject"] == "pretend:alice"


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_id": "unknown"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"device_code": "x"}, 400, "invalid_grant"),
        ({"device_code": "x.y"}, 400, "invalid_grant"),
        ({"device_code": "é.é"}, 400, "invalid_grant"),
    ],
)
async def test_invalid_token_request_is_refused(
    http: aiohttp.ClientSession, changes: dict[str, str], status: int, error: str
) -> None:
    new_login = await begin(http)

    answer = await poll(http, **{"device_code": new_login["device_code"], **changes})

    assert (answer[0], answer[1]["error"]) == (status, error)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", FORM),
        (b"client_id=default&client_id=default", FORM),
        (b"client_id=\xff", FORM),
        (b"client_id=" + b"x" * 70_000, FORM),
        (b"&".join(b"a%d=1" % number for number in range(40)), FORM),
        (b'{"client_id": "default"}', {"Content-Type": "application/json"}),
    ],
)
@pytest.mark.parametrize("path", ["/oauth/device_authorization", "/oauth/token"])
async def test_malformed_form_is_refused(
    http: aiohttp.ClientSession, path: str, body: bytes, headers: dict[str, str]
) -> None:
    async with http.post(path, data=body, headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["error"] == "invalid_request"


async def test_pages_of_allowed_origins_may_read_the_answers(start_broker: StartBroker) -> None:
    broker = await start_broker(origins="https://site.example")
    form = {"grant_type": GRANT, "client_id": "default", "device_code": "x.y"}
    async with aiohttp.ClientSession(broker.url) as http:
        allowed, refused = {"Origin": "https://site.example"}, {"Origin": "https://evil.example"}

        async with http.post("/oauth/token", data=form, headers=allowed) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "https://site.example"
            assert "Access-Control-Allow-Credentials" not in response.headers
        async with http.post("/oauth/token", data=form, headers=refused) as response:
            assert response.status == 401
            assert "Access-Control-Allow-Origin" not in response.headers
        async with http.options("/oauth/token", headers=allowed) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Methods"] == "POST"


async def test_device_page_shows_the_code(http: aiohttp.ClientSession) -> None:
    new_login = await begin(http)

    async with http.get("/device", params={"user_code": new_login["user_code"]}) as response:
        page = await response.text()
        assert new_login["code_url"] in page
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        assert response.headers["Referrer-Policy"] == "no-referrer"


async def device_page(
    http: aiohttp.ClientSession, user_code: str, **headers: str
) -> tuple[int, str, str]:
    """The status, the view and the text of the page for a code."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.get(
        "/device", params={"user_code": user_code}, headers=sent, allow_redirects=False
    ) as response:
        text = await response.text()
        found = re.search(r'<main class="device (\w+)">', text)
        return response.status, found[1] if found else response.headers["Location"], text


async def test_device_page_accepts_a_typed_code(http: aiohttp.ClientSession) -> None:
    new_login = await begin(http)

    status, view, text = await device_page(http, new_login["user_code"].lower().replace("-", " "))

    assert (status, view) == (200, "code")
    assert new_login["code_url"] in text
    assert 'http-equiv="refresh"' in text


async def test_device_page_follows_the_login_to_its_end(
    http: aiohttp.ClientSession, broker: RunningBroker
) -> None:
    new_login = await begin(http)
    views = [(await device_page(http, new_login["user_code"]))[1]]

    async with PhoneClient(broker.url) as phone:
        await phone.post("scan", {"scene": new_login["user_code"]})
        views.append((await device_page(http, new_login["user_code"]))[1])
        await phone.post("confirm", {"login_id": new_login["login_id"]})
        views.append((await device_page(http, new_login["user_code"]))[1])
        assert (await poll(http, new_login["device_code"]))[0] == 200
    _, view, text = await device_page(http, new_login["user_code"])

    assert [*views, view] == ["code", "scanned", "done", "done"]
    assert 'http-equiv="refresh"' not in text


async def test_device_page_shows_a_denial(
    http: aiohttp.ClientSession, broker: RunningBroker
) -> None:
    new_login = await begin(http)
    async with PhoneClient(broker.url) as phone:
        await phone.post("scan", {"scene": new_login["scene"]})
        await phone.post("deny", {"login_id": new_login["login_id"]})

    assert (await device_page(http, new_login["user_code"]))[1] == "denied"


REGISTER_URL = "https://site.example/register?from=scan&lang=en"


@pytest.mark.parametrize("url", [REGISTER_URL, None], ids=["link", "no-link"])
async def test_device_page_shows_registration_and_continues(
    start_broker: StartBroker, url: str | None
) -> None:
    directory = FixedDirectory()
    broker = await start_broker(directory, register_url=url)
    async with aiohttp.ClientSession(broker.url) as http, PhoneClient(broker.url) as phone:
        new_login = await begin(http)
        await phone.post("scan", {"scene": new_login["scene"]})
        await phone.post("confirm", {"login_id": new_login["login_id"]})

        status, view, text = await device_page(http, new_login["user_code"])
        directory.known.add("alice")
        await phone.post("confirm", {"login_id": new_login["login_id"]})
        registered = (await device_page(http, new_login["user_code"]))[1]

    assert (status, view, registered) == (200, "unregistered", "done")
    assert f'class="button register" href="{html.escape(url or "")}"' in text
    assert 'http-equiv="refresh"' in text
    assert new_login["code_url"] not in text


async def test_device_page_explains_registration_in_both_languages(
    start_broker: StartBroker,
) -> None:
    broker = await start_broker(FixedDirectory())
    async with aiohttp.ClientSession(broker.url) as http, PhoneClient(broker.url) as phone:
        new_login = await begin(http)
        await phone.post("scan", {"scene": new_login["scene"]})
        await phone.post("confirm", {"login_id": new_login["login_id"]})

        for language, words in [("en", "You have no account yet."), ("zh", "尚未注册。")]:
            page = await device_page(http, new_login["user_code"], Accept_Language=language)
            assert words in page[2]


PHONES = [{"Sec_CH_UA_Mobile": "?1"}, {"User_Agent": "Mozilla/5.0 (iPhone) Mobile/15E148 Safari"}]


@pytest.mark.parametrize("headers", PHONES, ids=["hint", "user-agent"])
async def test_phone_goes_straight_to_the_confirm_page(
    http: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    new_login = await begin(http)

    status, location, _ = await device_page(http, new_login["user_code"], **headers)

    assert (status, location) == (303, new_login["open_url"])
    assert location.endswith(f"?scene={new_login['scene']}")


async def test_phone_gets_a_button_for_an_app_scheme(start_broker: StartBroker) -> None:
    broker = await start_broker(open_url="weixin://dl/business/?query=scene%3D{scene}")
    async with aiohttp.ClientSession(broker.url) as http:
        new_login = await begin(http)

        status, view, text = await device_page(http, new_login["user_code"], Sec_CH_UA_Mobile="?1")

    assert (status, view) == (200, "open")
    assert f'href="weixin://dl/business/?query=scene%3D{new_login["scene"]}"' in text


async def test_link_of_another_site_asks_first(http: aiohttp.ClientSession) -> None:
    """A site that sends its visitors here cannot use their guesses up, or skip the question."""
    new_login = await begin(http)
    for _ in range(USER_CODES_MAX + 1):
        unknown = await device_page(http, "BBBB-BBBB", Sec_Fetch_Site="cross-site")
        assert unknown[:2] == (200, "check")

    _, view, text = await device_page(http, new_login["user_code"], Sec_Fetch_Site="cross-site")

    assert view == "check"
    assert f'value="{new_login["user_code"]}"' in text
    assert (await device_page(http, new_login["user_code"]))[1] == "code"


async def test_many_unknown_codes_are_rate_limited(http: aiohttp.ClientSession) -> None:
    new_login = await begin(http)
    for _ in range(USER_CODES_MAX):
        assert (await device_page(http, "BBBB-BBBB"))[0] == 404

    assert (await device_page(http, new_login["user_code"]))[:2] == (429, "busy")


async def test_device_page_does_not_cut_pasted_codes(http: aiohttp.ClientSession) -> None:
    async with http.get("/device") as response:
        assert "maxlength" not in await response.text()


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("ABC+%22+D", "ABC &quot; D"),
        ("%3Cb%3E", "&lt;b&gt;"),
        ("%ED%A0%80", "\N{REPLACEMENT CHARACTER}" * 3),
    ],
    ids=["quote", "markup", "no-utf-8"],
)
async def test_device_page_keeps_an_unknown_code(
    http: aiohttp.ClientSession, query: str, value: str
) -> None:
    async with http.get(URL(f"/device?user_code={query}", encoded=True)) as response:
        assert response.status == 404
        assert f'value="{value}"' in await response.text()


@pytest.mark.parametrize("code", ["unknown", "<script>", "", "x" * 100, "- -", "x-" * 50])
async def test_device_page_for_unknown_code_is_404(http: aiohttp.ClientSession, code: str) -> None:
    async with http.get("/device", params={"user_code": code}) as response:
        assert response.status == 404
        assert "<script>" not in await response.text()


async def test_device_page_is_in_the_language_of_the_browser(
    http: aiohttp.ClientSession,
) -> None:
    for language, title in [("zh-CN,en;q=0.8", "在设备上登录"), ("fr", "Sign in on your device")]:
        async with http.get("/device", headers={"Accept-Language": language}) as response:
            assert response.status == 200
            assert title in await response.text()
