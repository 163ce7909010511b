"""Tests of whole logins over real sockets, with third-party clients.

Each test runs with the client of python-socketio and with the official JavaScript
client in Node, over WebSocket and over polling that is upgraded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest

from broker.identity.ports import Directory
from tests.support.builders import FixedDirectory, RunningBroker, StartBroker
from tests.support.clients import (
    BrowserClient,
    NodeBrowser,
    PhoneClient,
    PythonBrowser,
    Refused,
    SocketPhone,
)
from tests.support.environment import free_port
from tests.support.general_paths import use_general_paths
from tests.support.logins import secret_of
from tests.support.loop_clock import LoopClock
from tests.support.nginx import nginx_before
from tests.support.servers.redis import Engines
from tests.support.waiting import eventually

BROWSERS: dict[str, Callable[[], BrowserClient]] = {
    "python-websocket": lambda: PythonBrowser(["websocket"]),
    "python-polling-first": lambda: PythonBrowser(["polling", "websocket"]),
    "js-websocket": lambda: NodeBrowser({"transports": ["websocket"]}),
    "js-default": lambda: NodeBrowser({}),
}


class Deployment(NamedTuple):
    """The number of instances, whether nginx is in front of them, and the client.

    One instance stores its state in memory. Several instances share a Valkey.
    general: whether no message takes a short path.
    """

    instances: int
    nginx: bool
    client: str
    general: bool = False

    def __str__(self) -> str:
        front = "-behind-nginx" if self.nginx else ""
        return f"{self.instances}{front}-{self.client}{'-general' if self.general else ''}"


DEPLOYMENTS = [
    *(Deployment(1, False, client) for client in BROWSERS),
    Deployment(1, False, "js-websocket", general=True),
    Deployment(2, False, "js-websocket"),
    Deployment(2, True, "js-default"),
    Deployment(4, True, "js-default"),
]

BOTH_ENGINES = [Deployment(1, False, "python-websocket"), Deployment(1, False, "js-default")]

NewBrowser = Callable[[], BrowserClient]
NewPhone = Callable[..., Any]


@pytest.fixture(
    params=[
        pytest.param(
            deployment, marks=pytest.mark.both_engines if deployment in BOTH_ENGINES else ()
        )
        for deployment in DEPLOYMENTS
    ],
    ids=str,
)
def deployment(request: pytest.FixtureRequest) -> Deployment:
    assert isinstance(request.param, Deployment)
    return request.param


@pytest.fixture
async def start_broker(
    deployment: Deployment,
    start_broker: StartBroker,
    engines: Engines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[StartBroker]:
    """Start one or several brokers.

    Without nginx, browsers connect to the first broker and phones to the last.
    nginx selects the broker of a browser by address, and that of a phone in turn.
    """
    if deployment.general:
        use_general_paths(monkeypatch)
    async with AsyncExitStack() as stack:

        async def start(directory: Directory | None = None, **changes: object) -> RunningBroker:
            if deployment.instances == 1:
                return await start_broker(directory, **changes)
            shared = {"state_url": engines.url("valkey"), "key_file": tmp_path / "keys.json"}
            running = [
                await start_broker(directory, **shared, **changes)
                for _ in range(deployment.instances)
            ]
            if not deployment.nginx:
                return running[0]._replace(phones=running[-1].url)
            urls = [one.url for one in running]
            front = nginx_before(urls, tmp_path / "nginx", free_port())
            url = await stack.enter_async_context(front)
            return running[0]._replace(url=url, phones=url)

        yield start


@pytest.fixture
async def broker(start_broker: StartBroker) -> RunningBroker:
    return await start_broker()


@pytest.fixture
async def new_browser(deployment: Deployment) -> AsyncIterator[NewBrowser]:
    async with AsyncExitStack() as stack:

        def new() -> BrowserClient:
            browser = BROWSERS[deployment.client]()
            stack.push_async_callback(browser.close)
            return browser

        yield new


@pytest.fixture
async def browser(new_browser: NewBrowser, broker: RunningBroker) -> BrowserClient:
    browser = new_browser()
    await browser.connect(broker.url)
    return browser


@pytest.fixture
async def new_phone(broker: RunningBroker) -> AsyncIterator[NewPhone]:
    async with AsyncExitStack() as stack:

        async def new(name: str = "alice") -> PhoneClient:
            return await stack.enter_async_context(PhoneClient(broker.phones, name))

        yield new


async def begin(browser: BrowserClient) -> dict[str, Any]:
    answer: dict[str, Any] = await browser.emit("begin", {})
    assert "error" not in answer
    return answer


@pytest.mark.parametrize("over", ["http", "socketio"])
async def test_login_by_scan_and_confirm(
    browser: BrowserClient,
    new_browser: NewBrowser,
    new_phone: NewPhone,
    over: str,
    broker: RunningBroker,
) -> None:
    new_login = await begin(browser)
    phone = await new_phone()
    if over == "socketio":
        socket = SocketPhone(new_browser())
        await socket.connect(broker.phones, phone.session)
        phone = socket

    scanned = (await phone.post("scan", {"scene": new_login["scene"]})).body
    assert await browser.push() == ("login-scanned", {"login_id": new_login["login_id"]})
    confirmed = (await phone.post("confirm", {"login_id": scanned["login_id"]})).body
    assert await browser.push() == ("login-confirmed", {"login_id": new_login["login_id"]})
    token = await browser.emit("redeem", secret_of(new_login))

    assert confirmed == {"login_id": new_login["login_id"], "state": "confirmed"}
    assert token["token_type"] == "Bearer"
    assert token["subject"] == "pretend:alice"
    assert token["expires_in"] == pytest.approx(600, abs=60)
    again = await browser.emit("redeem", secret_of(new_login))
    assert claims_of(again) == claims_of(token)


def claims_of(answer: dict[str, Any]) -> dict[str, Any]:
    token = answer["access_token"]
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


async def test_begin_returns_the_documented_fields(browser: BrowserClient) -> None:
    new_login = await begin(browser)

    assert set(new_login) == {
        *("login_id", "scene", "secret", "code_url", "open_url", "expires_in", "interval", "app")
    }
    assert new_login["expires_in"] == pytest.approx(120, abs=20)
    assert new_login["code_url"].startswith("data:image/")


async def test_scan_returns_site_and_browser_of_the_login(
    browser: BrowserClient, new_phone: NewPhone
) -> None:
    new_login = await begin(browser)
    phone = await new_phone()

    scan = (await phone.post("scan", {"scene": new_login["scene"]})).body

    assert scan["app"] == {
        "id": "default",
        "name": "Example site",
        "scopes": ["openid", "profile"],
    }
    assert scan["browser"]["ip"] == "127.0.0.1"
    assert scan["browser"]["since"] + scan["expires_in"] == pytest.approx(120, abs=2)
    assert set(scan["browser"]) == {"ip", "user_agent", "since"}
    assert 0 < scan["expires_in"] <= 120
    assert scan["state"] == "scanned"


async def test_denied_login_cannot_be_redeemed(browser: BrowserClient, new_phone: NewPhone) -> None:
    new_login = await begin(browser)
    phone = await new_phone()
    await phone.post("scan", {"scene": new_login["scene"]})

    denied = await phone.post("deny", {"login_id": new_login["login_id"]})

    assert denied.body == {"login_id": new_login["login_id"], "state": "denied"}
    assert [(await browser.push())[0] for _ in range(2)] == ["login-scanned", "login-denied"]
    assert (await browser.emit("redeem", secret_of(new_login)))["error"] == "access_denied"


async def test_expired_code_is_replaced_by_a_new_login(
    new_browser: NewBrowser, start_broker: StartBroker, loop_clock: LoopClock
) -> None:
    broker = await start_broker(login_lifetime=20, clock=loop_clock)
    browser = new_browser()
    await browser.connect(broker.url)
    old = await begin(browser)

    await loop_clock.move(21)

    assert await browser.push() == ("login-expired", {"login_id": old["login_id"]})
    new = await begin(browser)

    assert new["scene"] != old["scene"]
    assert (await browser.emit("redeem", secret_of(old)))["error"] == "expired_token"
    async with PhoneClient(broker.phones) as phone:
        assert (await phone.post("scan", {"scene": old["scene"]})).body["error"] == "expired_token"
        assert (await phone.post("scan", {"scene": new["scene"]})).status == 200


async def test_new_begin_cancels_the_former_login(
    browser: BrowserClient, new_phone: NewPhone
) -> None:
    old = await begin(browser)
    new = await begin(browser)
    phone = await new_phone()

    assert (await phone.post("scan", {"scene": old["scene"]})).body["error"] == "unknown_scene"
    assert (await phone.post("scan", {"scene": new["scene"]})).status == 200
    assert await browser.push() == ("login-scanned", {"login_id": new["login_id"]})


async def test_disconnected_browser_resumes_and_redeems(
    browser: BrowserClient, new_phone: NewPhone
) -> None:
    new_login = await begin(browser)
    phone = await new_phone()
    await phone.post("scan", {"scene": new_login["scene"]})
    assert (await browser.push())[0] == "login-scanned"

    await browser.cut()
    assert (await browser.push())[0] == "disconnect"
    await phone.post("confirm", {"login_id": new_login["login_id"]})
    assert (await browser.push())[0] == "connect"
    resumed = await browser.emit("resume", secret_of(new_login))

    assert resumed["state"] == "confirmed"
    assert 0 < resumed["expires_in"] <= 60
    assert (await browser.emit("redeem", secret_of(new_login)))["access_token"]


async def test_browser_disconnected_during_redeem_gets_its_token(
    broker: RunningBroker, new_phone: NewPhone
) -> None:
    """The connection closes before the browser receives the response to `redeem`."""
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)
    new_login = await begin(browser)
    phone = await new_phone()
    await phone.post("scan", {"scene": new_login["scene"]})
    await phone.post("confirm", {"login_id": new_login["login_id"]})

    lost = asyncio.create_task(browser.emit("redeem", secret_of(new_login)))
    await asyncio.sleep(0)
    await browser.break_off()
    while (await browser.push())[0] != "connect":
        pass
    assert (await browser.emit("resume", secret_of(new_login)))["state"] == "confirmed"
    assert (await browser.emit("redeem", secret_of(new_login)))["access_token"]
    lost.cancel()
    await browser.close()


async def test_reconnected_browser_that_has_redeemed_gets_the_same_token(
    browser: BrowserClient, new_browser: NewBrowser, broker: RunningBroker, new_phone: NewPhone
) -> None:
    new_login = await begin(browser)
    phone = await new_phone()
    await phone.post("scan", {"scene": new_login["scene"]})
    await phone.post("confirm", {"login_id": new_login["login_id"]})
    token = await browser.emit("redeem", secret_of(new_login))
    await browser.close()

    other = new_browser()
    await other.connect(broker.url)
    resumed = await other.emit("resume", secret_of(new_login))
    again = await other.emit("redeem", secret_of(new_login))

    assert resumed["state"] == "confirmed"
    assert 0 < resumed["expires_in"] <= 60
    assert claims_of(again) == claims_of(token)


async def test_events_reach_the_socket_that_resumed(
    browser: BrowserClient, new_browser: NewBrowser, broker: RunningBroker, new_phone: NewPhone
) -> None:
    new_login = await begin(browser)
    second = new_browser()
    await second.connect(broker.url)

    resumed = await second.emit("resume", secret_of(new_login))
    await (await new_phone()).post("scan", {"scene": new_login["scene"]})

    assert (resumed["login_id"], resumed["state"]) == (new_login["login_id"], "pending")
    assert await second.push() == ("login-scanned", {"login_id": new_login["login_id"]})


async def test_cancelled_code_cannot_be_scanned(
    browser: BrowserClient, new_phone: NewPhone
) -> None:
    new_login = await begin(browser)

    cancelled = await browser.emit("cancel", secret_of(new_login))

    assert cancelled == {"login_id": new_login["login_id"], "state": "cancelled"}
    phone = await new_phone()
    assert (await phone.post("scan", {"scene": new_login["scene"]})).body[
        "error"
    ] == "unknown_scene"


async def test_second_phone_is_refused(browser: BrowserClient, new_phone: NewPhone) -> None:
    new_login = await begin(browser)
    alice, bob = await new_phone("alice"), await new_phone("bob")
    await alice.post("scan", {"scene": new_login["scene"]})

    answers = [
        await bob.post("scan", {"scene": new_login["scene"]}),
        await bob.post("confirm", {"login_id": new_login["login_id"]}),
        await bob.post("deny", {"login_id": new_login["login_id"]}),
    ]

    assert [(one.status, one.body["error"]) for one in answers] == [
        (409, "already_scanned"),
        (403, "access_denied"),
        (403, "access_denied"),
    ]
    confirmed = await alice.post("confirm", {"login_id": new_login["login_id"]})
    assert confirmed.body["state"] == "confirmed"


async def test_browser_without_the_secret_is_refused(
    browser: BrowserClient, new_browser: NewBrowser, broker: RunningBroker, new_phone: NewPhone
) -> None:
    """The attacker has the scene, the login_id and another socket."""
    new_login = await begin(browser)
    attacker = new_browser()
    await attacker.connect(broker.url)
    own_login = await begin(attacker)
    phone = await new_phone()
    await phone.post("scan", {"scene": new_login["scene"]})
    await phone.post("confirm", {"login_id": new_login["login_id"]})

    for verb in ("redeem", "resume", "cancel"):
        for secret in (own_login["secret"], new_login["scene"], new_login["login_id"], "A" * 43):
            answer = await attacker.emit(
                verb, {"login_id": new_login["login_id"], "secret": secret}
            )
            assert answer["error"] == "invalid_grant"
    await phone.post("scan", {"scene": own_login["scene"]})
    assert await attacker.push() == ("login-scanned", {"login_id": own_login["login_id"]})
    assert (await browser.emit("redeem", secret_of(new_login)))["access_token"]


async def test_unknown_user_registers_and_confirms_the_same_code(
    new_browser: NewBrowser, start_broker: StartBroker
) -> None:
    directory = FixedDirectory()
    broker = await start_broker(directory, register_url="https://site.example/register")
    browser = new_browser()
    await browser.connect(broker.url, {"app": "default"})
    new_login = await begin(browser)

    async with PhoneClient(broker.phones) as phone:
        await phone.post("scan", {"scene": new_login["scene"]})
        refused = await phone.post("confirm", {"login_id": new_login["login_id"]})
        assert (refused.status, refused.body["error"]) == (403, "unregistered_user")
        assert refused.body["register_url"] == "https://site.example/register"
        resumed = await browser.emit("resume", secret_of(new_login))
        assert 120 < resumed.pop("expires_in") <= 600
        assert resumed == {
            "login_id": new_login["login_id"],
            "state": "scanned",
            "unregistered": True,
            "register_url": "https://site.example/register",
        }
        directory.known.add("alice")
        await phone.post("confirm", {"login_id": new_login["login_id"]})

    assert [await browser.push() for _ in range(3)] == [
        ("login-scanned", {"login_id": new_login["login_id"]}),
        (
            "login-unregistered",
            {"login_id": new_login["login_id"], "register_url": "https://site.example/register"},
        ),
        ("login-confirmed", {"login_id": new_login["login_id"]}),
    ]
    assert (await browser.emit("redeem", secret_of(new_login)))["subject"] == "user-alice"


async def test_unknown_app_is_refused(new_browser: NewBrowser, broker: RunningBroker) -> None:
    with pytest.raises(Refused) as refusal:
        await new_browser().connect(broker.url, {"app": "unknown"})
    assert refusal.value.data["error"] == "invalid_client"


async def test_phone_without_session_is_refused(
    new_browser: NewBrowser, broker: RunningBroker
) -> None:
    session = {"id": "A" * 22, "skey": "B" * 43}
    with pytest.raises(Refused) as refusal:
        await new_browser().connect(broker.url, session, "/phone")
    assert refusal.value.data["error"] == "invalid_session"


async def test_unknown_event_is_answered_with_an_error(browser: BrowserClient) -> None:
    assert (await browser.emit("launch", {}))["error"] == "invalid_request"


async def test_official_client_upgrades_from_polling(broker: RunningBroker) -> None:
    browser = NodeBrowser({})
    try:
        await browser.connect(broker.url)

        async def is_upgraded() -> bool:
            return await browser.transport() == "websocket"

        await eventually(is_upgraded)
        assert await begin(browser)
    finally:
        await browser.close()
