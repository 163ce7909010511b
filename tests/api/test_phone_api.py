"""Tests of the phone's HTTP API: sessions, headers and refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import PhoneClient, PythonBrowser, SocketPhone


@pytest.fixture
async def http(broker: RunningBroker) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(broker.url) as session:
        yield session


async def test_new_session_has_id_skey_and_lifetime(broker: RunningBroker) -> None:
    async with PhoneClient(broker.url) as phone:
        assert set(phone.session) == {"id", "skey", "expires_in"}
        assert phone.session["expires_in"] == pytest.approx(2_592_000, abs=60)


async def test_app_may_be_omitted(http: aiohttp.ClientSession) -> None:
    async with http.post("/phone/session", json={"js_code": "pretend:alice"}) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"app": "unknown", "js_code": "pretend:a"}, 401, "invalid_client"),
        ({"app": "default", "js_code": "nonsense"}, 401, "invalid_session"),
        ({"app": "default"}, 400, "invalid_request"),
        ({"app": 1, "js_code": "pretend:a"}, 400, "invalid_request"),
        ({"app": "default", "js_code": "x" * 257}, 400, "invalid_request"),
        ([], 400, "invalid_request"),
        (None, 400, "invalid_request"),
    ],
)
async def test_invalid_session_request_is_refused(
    http: aiohttp.ClientSession, body: object, status: int, error: str
) -> None:
    async with http.post("/phone/session", json=body) as response:
        answer = await response.json()
        assert (response.status, answer["error"]) == (status, error)


async def test_refusal_names_the_invalid_field(http: aiohttp.ClientSession) -> None:
    async with http.post("/phone/session", json={"app": "default", "js_code": 7}) as response:
        assert "js_code" in (await response.json())["error_description"]


async def test_session_in_wafer_headers_is_accepted(broker: RunningBroker) -> None:
    async with PhoneClient(broker.url) as phone, aiohttp.ClientSession(broker.url) as http:
        headers = {"X-WX-Id": phone.session["id"], "X-WX-Skey": phone.session["skey"]}
        async with http.post("/phone/scan", json={"scene": "x"}, headers=headers) as response:
            assert (await response.json())["error"] == "unknown_scene"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer a.b"},
        {"Authorization": "Bearer ."},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer \udcff.\udcfe"},
        {"X-WX-Id": "a"},
        {"X-WX-Id": "a", "X-WX-Skey": "b"},
    ],
)
async def test_act_without_session_is_refused(
    http: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    for verb in ("scan", "confirm", "deny"):
        body = {"scene": "x", "login_id": "x"}
        async with http.post(f"/phone/{verb}", json=body, headers=headers) as response:
            assert response.status == 401
            assert (await response.json())["error"] == "invalid_session"
            assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_identity_in_the_request_is_ignored(broker: RunningBroker) -> None:
    async with PhoneClient(broker.url, "alice") as alice, PhoneClient(broker.url, "bob") as bob:
        async with aiohttp.ClientSession(broker.url) as http:
            form = {"client_id": "default"}
            async with http.post("/oauth/device_authorization", data=form) as response:
                new_login = await response.json()
        await alice.post("scan", {"scene": new_login["user_code"]})

        forged = {
            "login_id": new_login["login_id"],
            "openid": "alice",
            "identity": ["pretend", "alice"],
            "phone": {"app": "default", "identity": ["pretend", "alice"]},
        }
        answer = await bob.post("confirm", forged)

        assert answer.body["error"] == "access_denied"


async def test_response_to_a_phone_is_not_cached(broker: RunningBroker) -> None:
    async with PhoneClient(broker.url) as phone:
        answer = await phone.post("scan", {"scene": "unknown"})
        assert answer.headers["Cache-Control"] == "no-store"


async def test_phone_ends_its_session_or_all_of_its_user(broker: RunningBroker) -> None:
    async with (
        PhoneClient(broker.url) as one,
        PhoneClient(broker.url) as two,
        PhoneClient(broker.url) as three,
        PhoneClient(broker.url, "bob") as bob,
    ):
        assert (await one.delete("session")).body == {"ended": 1}
        assert (await one.delete("session")).body["error"] == "invalid_session"
        assert (await one.delete("sessions")).body["error"] == "invalid_session"
        assert (await two.delete("sessions")).body == {"ended": 2}
        for phone in (one, two, three):
            assert (await phone.post("scan", {"scene": "x"})).body["error"] == "invalid_session"
        assert (await bob.post("scan", {"scene": "x"})).body["error"] == "unknown_scene"


async def test_socket_is_refused_after_sign_out(broker: RunningBroker) -> None:
    async with PhoneClient(broker.url) as phone:
        socket = SocketPhone(PythonBrowser(["websocket"]))
        await socket.connect(broker.url, phone.session)
        await phone.delete("session")

        assert (await socket.post("scan", {"scene": "x"})).body["error"] == "invalid_session"
        await socket.close()


async def test_page_of_another_origin_uses_no_attempts(
    start_broker: StartBroker,
) -> None:
    broker = await start_broker(misses_per_minute=1, origins="https://site.example")
    async with aiohttp.ClientSession(broker.url) as http:
        for verb in ("session", "scan", "confirm", "deny"):
            evil = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
            async with http.post(f"/phone/{verb}", data=b"{}", headers=evil) as response:
                assert (response.status, (await response.json())["error"]) == (
                    401,
                    "invalid_client",
                )
        for path in ("session", "sessions"):
            async with http.delete(f"/phone/{path}", headers=evil) as response:
                assert (await response.json())["error"] == "invalid_client"
        async with http.post("/phone/session", json={"js_code": "pretend:a"}) as response:
            assert response.status == 200


async def test_failed_scans_are_alike_and_rate_limited(start_broker: StartBroker) -> None:
    broker = await start_broker(misses_per_minute=3)
    async with PhoneClient(broker.url) as phone:
        failures = [await phone.post("scan", {"scene": f"guess-{number}"}) for number in range(3)]
        limited = await phone.post("scan", {"scene": "guess-3"})

        assert len({str(failure.body) for failure in failures}) == 1
        assert (limited.status, limited.body["error"]) == (429, "rate_limited")
        assert 0 < int(limited.headers["Retry-After"]) <= 60
        assert limited.body["retry_after"] == int(limited.headers["Retry-After"])


async def test_addresses_behind_a_trusted_proxy_are_counted_separately(
    start_broker: StartBroker,
) -> None:
    broker = await start_broker(misses_per_minute=1, trusted_proxies="127.0.0.0/8")
    async with aiohttp.ClientSession(broker.url) as http:
        statuses = []
        for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"):
            headers = {"Authorization": "Bearer a.b", "X-Forwarded-For": f"10.0.0.1, {address}"}
            async with http.post("/phone/scan", json={}, headers=headers) as response:
                statuses.append(response.status)

    assert statuses == [401, 429, 401, 401, 429]


async def test_forwarded_address_is_ignored_without_trusted_proxy(
    start_broker: StartBroker,
) -> None:
    broker = await start_broker(misses_per_minute=1)
    async with aiohttp.ClientSession(broker.url) as http:
        statuses = []
        for address in ("192.0.2.1", "192.0.2.2"):
            headers = {"Authorization": "Bearer a.b", "X-Forwarded-For": address}
            async with http.post("/phone/scan", json={}, headers=headers) as response:
                statuses.append(response.status)

    assert statuses == [401, 429]
