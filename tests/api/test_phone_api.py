"""The phone's HTTP: sessions, headers, and what is refused."""

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


async def test_a_session_has_its_forms(broker: RunningBroker) -> None:
    async with PhoneClient(broker.url) as phone:
        assert set(phone.session) == {"id", "skey", "expires_in"}
        assert phone.session["expires_in"] == pytest.approx(2_592_000, abs=60)


async def test_the_app_may_be_left_out(http: aiohttp.ClientSession) -> None:
    async with http.post("/phone/session", json={"js_code": "pretend:alice"}) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"app": "nobody", "js_code": "pretend:a"}, 401, "invalid_client"),
        ({"app": "default", "js_code": "nonsense"}, 401, "invalid_session"),
        ({"app": "default"}, 400, "invalid_request"),
        ({"app": 1, "js_code": "pretend:a"}, 400, "invalid_request"),
        ({"app": "default", "js_code": "x" * 257}, 400, "invalid_request"),
        ([], 400, "invalid_request"),
        (None, 400, "invalid_request"),
    ],
)
async def test_what_opens_no_session(
    http: aiohttp.ClientSession, body: object, status: int, error: str
) -> None:
    async with http.post("/phone/session", json=body) as response:
        answer = await response.json()
        assert (response.status, answer["error"]) == (status, error)


async def test_a_refusal_names_the_field_that_is_wrong(http: aiohttp.ClientSession) -> None:
    async with http.post("/phone/session", json={"app": "default", "js_code": 7}) as response:
        assert "js_code" in (await response.json())["error_description"]


async def test_wafers_headers_are_taken_for_the_session(broker: RunningBroker) -> None:
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
async def test_without_a_session_no_act(
    http: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    for verb in ("scan", "confirm", "deny"):
        body = {"scene": "x", "login_id": "x"}
        async with http.post(f"/phone/{verb}", json=body, headers=headers) as response:
            assert response.status == 401
            assert (await response.json())["error"] == "invalid_session"
            assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_who_the_phone_is_never_comes_from_the_request(broker: RunningBroker) -> None:
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


async def test_what_a_phone_hears_is_not_kept(broker: RunningBroker) -> None:
    async with PhoneClient(broker.url) as phone:
        answer = await phone.post("scan", {"scene": "unknown"})
        assert answer.headers["Cache-Control"] == "no-store"


async def test_a_phone_signs_out_itself_or_all_phones_of_its_person(broker: RunningBroker) -> None:
    async with (
        PhoneClient(broker.url) as one,
        PhoneClient(broker.url) as two,
        PhoneClient(broker.url) as three,
        PhoneClient(broker.url, "bob") as bobs,
    ):
        assert (await one.delete("session")).body == {"ended": 1}
        assert (await one.delete("session")).body["error"] == "invalid_session"
        assert (await one.delete("sessions")).body["error"] == "invalid_session"
        assert (await two.delete("sessions")).body == {"ended": 2}
        for gone in (one, two, three):
            assert (await gone.post("scan", {"scene": "x"})).body["error"] == "invalid_session"
        assert (await bobs.post("scan", {"scene": "x"})).body["error"] == "unknown_scene"


async def test_a_socket_can_do_nothing_once_its_phone_has_signed_out(broker: RunningBroker) -> None:
    async with PhoneClient(broker.url) as phone:
        socket = SocketPhone(PythonBrowser(["websocket"]))
        await socket.connect(broker.url, phone.session)
        await phone.delete("session")

        assert (await socket.post("scan", {"scene": "x"})).body["error"] == "invalid_session"
        await socket.close()


async def test_a_page_of_another_origin_cannot_spend_its_visitors_tries(
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
        for what in ("session", "sessions"):
            async with http.delete(f"/phone/{what}", headers=evil) as response:
                assert (await response.json())["error"] == "invalid_client"
        async with http.post("/phone/session", json={"js_code": "pretend:a"}) as response:
            assert response.status == 200


async def test_failed_scans_are_alike_and_rate_limited(start_broker: StartBroker) -> None:
    broker = await start_broker(misses_per_minute=3)
    async with PhoneClient(broker.url) as phone:
        misses = [await phone.post("scan", {"scene": f"guess-{number}"}) for number in range(3)]
        slowed = await phone.post("scan", {"scene": "guess-3"})

        assert len({str(miss.body) for miss in misses}) == 1
        assert (slowed.status, slowed.body["error"]) == (429, "rate_limited")
        assert 0 < int(slowed.headers["Retry-After"]) <= 60
        assert slowed.body["retry_after"] == int(slowed.headers["Retry-After"])


async def test_behind_a_trusted_proxy_each_address_is_counted_by_itself(
    start_broker: StartBroker,
) -> None:
    broker = await start_broker(misses_per_minute=1, trusted_proxies="127.0.0.0/8")
    async with aiohttp.ClientSession(broker.url) as http:
        seen = []
        for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"):
            headers = {"Authorization": "Bearer a.b", "X-Forwarded-For": f"10.0.0.1, {address}"}
            async with http.post("/phone/scan", json={}, headers=headers) as response:
                seen.append(response.status)

    assert seen == [401, 429, 401, 401, 429]


async def test_without_a_trusted_proxy_nobody_can_pose_as_another_address(
    start_broker: StartBroker,
) -> None:
    broker = await start_broker(misses_per_minute=1)
    async with aiohttp.ClientSession(broker.url) as http:
        seen = []
        for address in ("192.0.2.1", "192.0.2.2"):
            headers = {"Authorization": "Bearer a.b", "X-Forwarded-For": address}
            async with http.post("/phone/scan", json={}, headers=headers) as response:
                seen.append(response.status)

    assert seen == [401, 429]
