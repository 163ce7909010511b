"""Logins with a match: on sockets, by polling, and what an onlooker receives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import NamedTuple

import aiohttp
import jwt
import pytest
from structlog.testing import capture_logs

from tests.support.app_admin import TOKEN, Admin
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import Payload, PhoneClient, PythonBrowser, SocketPhone
from tests.support.device_flow import GRANT
from tests.support.logins import secret_of

CAN = {"can": ["match"]}


class Visit(NamedTuple):
    """A browser and a phone of the app `bank`."""

    broker: RunningBroker
    app: str
    browser: PythonBrowser
    phone: PhoneClient

    async def begin(self) -> Payload:
        begun: Payload = await self.browser.emit("begin", {})
        return begun

    async def scan(self, begun: Payload) -> Payload:
        answer = await self.phone.post("scan", {"scene": begun["scene"], **CAN})
        assert answer.status == 200, answer.body
        body: Payload = answer.body
        return body

    async def form(self, path: str, **fields: str) -> tuple[int, Payload]:
        url = f"{self.broker.url}/oauth/{path}"
        async with (
            aiohttp.ClientSession() as http,
            http.post(url, data={"client_id": self.app, **fields}) as response,
        ):
            return response.status, await response.json()

    async def poll(self, device_code: str, **fields: str) -> Payload:
        _, body = await self.form("token", grant_type=GRANT, device_code=device_code, **fields)
        return body


@pytest.fixture(params=["number", "code"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def visit(start_broker: StartBroker, kind: str) -> AsyncIterator[Visit]:
    broker = await start_broker(admin_token=TOKEN, interval=1)
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(Admin(broker.admin))
        fields = {"id": "bank", "name": "Bank", "match": kind, "origins": ["https://b.example"]}
        assert (await admin.ask("POST", "/apps", fields)).status == 201
        browser = PythonBrowser(["websocket"])
        await browser.connect(broker.url, {"app": "bank"})
        stack.push_async_callback(browser.close)
        phone = await stack.enter_async_context(PhoneClient(broker.url, app="bank"))
        yield Visit(broker, "bank", browser, phone)


def wrong(answer: str) -> str:
    return f"{(int(answer) + 1) % 10 ** len(answer):0{len(answer)}}"


def methods_of(token: Payload) -> list[str]:
    claims = jwt.decode(token["access_token"], options={"verify_signature": False})
    return list(claims["amr"])


@pytest.mark.parametrize("kind", ["number"], indirect=True)
async def test_browser_shows_the_number_after_the_scan(visit: Visit) -> None:
    begun = await visit.begin()
    scanned = await visit.scan(begun)

    named = {"login_id": begun["login_id"]}
    assert await visit.browser.push() == ("login-scanned", {**named, "match": True})
    resumed = await visit.browser.emit("resume", secret_of(begun))
    confirm = {**named, "match": resumed["match"]}
    assert (await visit.phone.post("confirm", confirm)).body["state"] == "confirmed"

    assert resumed["match"] in scanned["match"]["choices"]
    assert await visit.browser.push() == ("login-confirmed", named)
    assert methods_of(await visit.browser.emit("redeem", secret_of(begun))) == ["scan", "match"]


@pytest.mark.parametrize("kind", ["number"], indirect=True)
async def test_browser_is_notified_of_a_wrong_number(visit: Visit) -> None:
    begun = await visit.begin()
    choices = (await visit.scan(begun))["match"]["choices"]
    await visit.browser.push()
    number = (await visit.browser.emit("resume", secret_of(begun)))["match"]
    other = next(choice for choice in choices if choice != number)

    named = {"login_id": begun["login_id"]}
    answer = await visit.phone.post("confirm", {**named, "match": other})

    assert (answer.status, answer.body["error"]) == (403, "access_denied")
    assert await visit.browser.push() == ("login-denied", named)


@pytest.mark.parametrize("kind", ["code"], indirect=True)
async def test_browser_sends_the_digits_of_the_phone(visit: Visit) -> None:
    begun = await visit.begin()
    assert (await visit.scan(begun))["match"] == {"kind": "code"}
    await visit.browser.push()
    resumed = await visit.browser.emit("resume", secret_of(begun))
    assert (resumed["prove"], resumed["tries"]) == (True, 3)

    confirmed = (await visit.phone.post("confirm", {"login_id": begun["login_id"]})).body
    digits, owned = confirmed["match"], secret_of(begun)
    missed = await visit.browser.emit("prove", {**owned, "match": wrong(digits)})
    proved = await visit.browser.emit("prove", {**owned, "match": digits})

    assert (confirmed["state"], len(digits)) == ("scanned", 4)
    assert confirmed["expires_in"] <= 60
    assert missed == {"login_id": begun["login_id"], "state": "scanned", "tries": 2}
    assert proved == {"login_id": begun["login_id"], "state": "confirmed"}
    assert await visit.browser.push() == ("login-confirmed", {"login_id": begun["login_id"]})
    assert methods_of(await visit.browser.emit("redeem", owned)) == ["scan", "match"]


@pytest.mark.parametrize("kind", ["number"], indirect=True)
async def test_polling_browser_gets_the_number(visit: Visit) -> None:
    _, begun = await visit.form("device_authorization")
    await visit.scan({"scene": begun["user_code"]})

    pending = await visit.poll(begun["device_code"])
    await visit.phone.post("confirm", {"login_id": begun["login_id"], "match": pending["match"]})

    assert (pending["error"], pending["state"]) == ("authorization_pending", "scanned")
    assert methods_of(await visit.poll(begun["device_code"])) == ["scan", "match"]


@pytest.mark.parametrize("kind", ["code"], indirect=True)
async def test_polling_browser_sends_the_digits(visit: Visit) -> None:
    _, begun = await visit.form("device_authorization")
    await visit.scan({"scene": begun["user_code"]})
    confirmed = (await visit.phone.post("confirm", {"login_id": begun["login_id"]})).body

    missed = await visit.poll(begun["device_code"], match=wrong(confirmed["match"]))
    token = await visit.poll(begun["device_code"], match=confirmed["match"])

    assert (missed["error"], missed["prove"], missed["tries"]) == (
        "authorization_pending",
        True,
        2,
    )
    assert methods_of(token) == ["scan", "match"]


@pytest.mark.parametrize("kind", ["code"], indirect=True)
async def test_third_wrong_answer_is_denied_at_the_token_endpoint(visit: Visit) -> None:
    _, begun = await visit.form("device_authorization")
    await visit.scan({"scene": begun["user_code"]})
    confirmed = (await visit.phone.post("confirm", {"login_id": begun["login_id"]})).body

    answers = [
        await visit.poll(begun["device_code"], match=wrong(confirmed["match"])) for _ in range(3)
    ]

    assert [answer["error"] for answer in answers] == [
        "authorization_pending",
        "authorization_pending",
        "access_denied",
    ]


async def test_browser_that_never_resumes_is_not_confirmed(visit: Visit, kind: str) -> None:
    begun = await visit.begin()
    await visit.scan(begun)

    answer = await visit.phone.post("confirm", {"login_id": begun["login_id"]})

    assert answer.body.get("error" if kind == "number" else "state") in (
        "invalid_request",
        "scanned",
    )
    redeemed = await visit.browser.emit("redeem", secret_of(begun))
    assert redeemed["error"] == "authorization_pending"


async def test_phone_without_match_is_refused(visit: Visit) -> None:
    begun = await visit.begin()

    answer = await visit.phone.post("scan", {"scene": begun["scene"]})

    assert (answer.status, answer.body["error"]) == (400, "invalid_request")
    assert (await visit.browser.emit("resume", secret_of(begun)))["state"] == "pending"


async def test_match_works_over_the_socket_of_a_phone(visit: Visit) -> None:
    begun = await visit.begin()
    phone = SocketPhone(PythonBrowser(["websocket"]))
    await phone.connect(visit.broker.url, visit.phone.session)

    scanned = await phone.post("scan", {"scene": begun["scene"], **CAN})
    await phone.close()

    assert "match" in scanned.body


@pytest.mark.parametrize("kind", ["number"], indirect=True)
async def test_onlooker_never_gets_the_number(visit: Visit) -> None:
    """An onlooker knows scene and login_id, and is any other phone or browser."""
    begun = await visit.begin()
    choices = (await visit.scan(begun))["match"]["choices"]
    async with PhoneClient(visit.broker.url, "mallory", app="bank") as mallory:
        scan = await mallory.post("scan", {"scene": begun["scene"], **CAN})
        guess = await mallory.post("confirm", {"login_id": begun["login_id"], "match": choices[0]})
    resume = await visit.browser.emit("resume", {"login_id": begun["login_id"], "secret": "guess"})

    assert scan.body["error"] == "already_scanned"
    assert guess.body["error"] == "access_denied"
    assert resume["error"] == "invalid_grant"
    assert (await visit.browser.emit("resume", secret_of(begun)))["state"] == "scanned"


@pytest.mark.parametrize("kind", ["code"], indirect=True)
async def test_digits_are_in_no_log_and_no_metric(visit: Visit) -> None:
    with capture_logs() as events:
        begun = await visit.begin()
        await visit.scan(begun)
        confirmed = (await visit.phone.post("confirm", {"login_id": begun["login_id"]})).body
        proof = {**secret_of(begun), "match": confirmed["match"]}
        await visit.browser.emit("prove", {**proof, "match": wrong(confirmed["match"])})
        await visit.browser.emit("prove", proof)
    async with aiohttp.ClientSession(visit.broker.admin) as http, http.get("/metrics") as metrics:
        text = await metrics.text()

    pushes = [await visit.browser.push() for _ in range(2)]
    assert f'"{confirmed["match"]}"' not in text
    assert all(confirmed["match"] not in event.values() for event in events)
    assert all(confirmed["match"] not in payload.values() for _, payload in pushes)


@pytest.mark.parametrize("kind", ["number"], indirect=True)
async def test_relay_of_a_still_picture_fails(visit: Visit) -> None:
    """The victim sees the attacker's code, and no number. A guess fails twice in three times."""
    begun = await visit.begin()
    choices = (await visit.scan(begun))["match"]["choices"]
    number = (await visit.browser.emit("resume", secret_of(begun)))["match"]
    guess = next(choice for choice in choices if choice != number)

    await visit.phone.post("confirm", {"login_id": begun["login_id"], "match": guess})

    redeemed = await visit.browser.emit("redeem", secret_of(begun))
    assert redeemed["error"] == "access_denied"


@pytest.mark.parametrize("kind", ["number"], indirect=True)
async def test_live_relay_of_the_number_passes(visit: Visit) -> None:
    """A match does not stop a page that shows the present code and number of another browser."""
    begun = await visit.begin()
    await visit.scan(begun)
    relayed = (await visit.browser.emit("resume", secret_of(begun)))["match"]

    await visit.phone.post("confirm", {"login_id": begun["login_id"], "match": relayed})

    assert "access_token" in await visit.browser.emit("redeem", secret_of(begun))
