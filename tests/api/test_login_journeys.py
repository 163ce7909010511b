"""Whole logins over real sockets, through clients that we did not write.

Each journey runs with python-socketio's client and with the official JavaScript
client in Node, over the websocket alone and over polling that is upgraded.
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


class Way(NamedTuple):
    """How many instances, whether nginx stands before them, and which client comes.

    One instance keeps everything itself; several share a Valkey.
    """

    instances: int
    nginx: bool
    client: str

    def __str__(self) -> str:
        return f"{self.instances}{'-behind-nginx' if self.nginx else ''}-{self.client}"


WAYS = [
    *(Way(1, False, client) for client in BROWSERS),
    Way(2, False, "js-websocket"),
    Way(2, True, "js-default"),
    Way(4, True, "js-default"),
]

BOTH_ENGINES = [Way(1, False, "python-websocket"), Way(1, False, "js-default")]

NewBrowser = Callable[[], BrowserClient]
NewPhone = Callable[..., Any]


@pytest.fixture(
    params=[
        pytest.param(way, marks=pytest.mark.both_engines if way in BOTH_ENGINES else ())
        for way in WAYS
    ],
    ids=str,
)
def way(request: pytest.FixtureRequest) -> Way:
    assert isinstance(request.param, Way)
    return request.param


@pytest.fixture
async def start_broker(
    way: Way, start_broker: StartBroker, engines: Engines, tmp_path: Path
) -> AsyncIterator[StartBroker]:
    """Starts a broker, or several.

    Without nginx browsers go to the first of them and phones to the last; nginx
    sends a browser to one by its address, and a phone's requests to all in turn.
    """
    async with AsyncExitStack() as stack:

        async def start(directory: Directory | None = None, **changes: object) -> RunningBroker:
            if way.instances == 1:
                return await start_broker(directory, **changes)
            shared = {"state_url": engines.url("valkey"), "key_file": tmp_path / "keys.json"}
            running = [
                await start_broker(directory, **shared, **changes) for _ in range(way.instances)
            ]
            if not way.nginx:
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
async def new_browser(way: Way) -> AsyncIterator[NewBrowser]:
    async with AsyncExitStack() as stack:

        def new() -> BrowserClient:
            browser = BROWSERS[way.client]()
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
async def test_a_login_by_scan_and_confirm(
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


async def test_begin_gives_what_the_page_needs(browser: BrowserClient) -> None:
    new_login = await begin(browser)

    assert set(new_login) == {"login_id", "scene", "secret", "code_url", "expires_in", "interval"}
    assert new_login["expires_in"] == pytest.approx(120, abs=20)
    assert new_login["code_url"].startswith("data:image/")


async def test_the_phone_sees_which_site_which_browser_where_from_and_since_when(
    browser: BrowserClient, new_phone: NewPhone
) -> None:
    new_login = await begin(browser)
    phone = await new_phone()

    shown = (await phone.post("scan", {"scene": new_login["scene"]})).body

    assert shown["app"] == {"id": "default", "name": "Example site"}
    assert shown["browser"]["ip"] == "127.0.0.1"
    assert shown["browser"]["since"] in (0, 1)
    assert set(shown["browser"]) == {"ip", "user_agent", "since"}
    assert 110 < shown["expires_in"] <= 120
    assert shown["state"] == "scanned"


async def test_denied(browser: BrowserClient, new_phone: NewPhone) -> None:
    new_login = await begin(browser)
    phone = await new_phone()
    await phone.post("scan", {"scene": new_login["scene"]})

    denied = await phone.post("deny", {"login_id": new_login["login_id"]})

    assert denied.body == {"login_id": new_login["login_id"], "state": "denied"}
    assert [(await browser.push())[0] for _ in range(2)] == ["login-scanned", "login-denied"]
    assert (await browser.emit("redeem", secret_of(new_login)))["error"] == "access_denied"


async def test_a_code_runs_out_and_is_refreshed(
    new_browser: NewBrowser, start_broker: StartBroker, loop_clock: LoopClock
) -> None:
    broker = await start_broker(login_lifetime=20, clock=loop_clock)
    browser = new_browser()
    await browser.connect(broker.url)
    old = await begin(browser)

    await loop_clock.move(21)

    assert await browser.push() == ("login-expired", {"login_id": old["login_id"]})
    fresh = await begin(browser)

    assert fresh["scene"] != old["scene"]
    assert (await browser.emit("redeem", secret_of(old)))["error"] == "expired_token"
    async with PhoneClient(broker.phones) as phone:
        assert (await phone.post("scan", {"scene": old["scene"]})).body["error"] == "expired_token"
        assert (await phone.post("scan", {"scene": fresh["scene"]})).status == 200


async def test_refreshing_cancels_the_former_login(
    browser: BrowserClient, new_phone: NewPhone
) -> None:
    old = await begin(browser)
    fresh = await begin(browser)
    phone = await new_phone()

    assert (await phone.post("scan", {"scene": old["scene"]})).body["error"] == "unknown_scene"
    assert (await phone.post("scan", {"scene": fresh["scene"]})).status == 200
    assert await browser.push() == ("login-scanned", {"login_id": fresh["login_id"]})


async def test_a_browser_that_was_cut_off_resumes_and_is_let_in(
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


async def test_a_browser_that_is_cut_off_from_its_token_comes_back_for_it(
    broker: RunningBroker, new_phone: NewPhone
) -> None:
    """The answer to `redeem` is on its way when the connection breaks."""
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)
    new_login = await begin(browser)
    phone = await new_phone()
    await phone.post("scan", {"scene": new_login["scene"]})
    await phone.post("confirm", {"login_id": new_login["login_id"]})

    lost = asyncio.create_task(browser.emit("redeem", secret_of(new_login)))
    await asyncio.sleep(0)
    browser.break_off()
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


async def test_pushes_follow_the_browser_to_its_new_socket(
    browser: BrowserClient, new_browser: NewBrowser, broker: RunningBroker, new_phone: NewPhone
) -> None:
    new_login = await begin(browser)
    second = new_browser()
    await second.connect(broker.url)

    resumed = await second.emit("resume", secret_of(new_login))
    await (await new_phone()).post("scan", {"scene": new_login["scene"]})

    assert (resumed["login_id"], resumed["state"]) == (new_login["login_id"], "pending")
    assert await second.push() == ("login-scanned", {"login_id": new_login["login_id"]})


async def test_cancelled(browser: BrowserClient, new_phone: NewPhone) -> None:
    new_login = await begin(browser)

    cancelled = await browser.emit("cancel", secret_of(new_login))

    assert cancelled == {"login_id": new_login["login_id"], "state": "cancelled"}
    phone = await new_phone()
    assert (await phone.post("scan", {"scene": new_login["scene"]})).body[
        "error"
    ] == "unknown_scene"


async def test_a_second_phone_can_do_nothing(browser: BrowserClient, new_phone: NewPhone) -> None:
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


async def test_whoever_lacks_the_secret_gets_nothing(
    browser: BrowserClient, new_browser: NewBrowser, broker: RunningBroker, new_phone: NewPhone
) -> None:
    """An onlooker with scene, login_id and a socket of their own."""
    new_login = await begin(browser)
    onlooker = new_browser()
    await onlooker.connect(broker.url)
    own = await begin(onlooker)
    phone = await new_phone()
    await phone.post("scan", {"scene": new_login["scene"]})
    await phone.post("confirm", {"login_id": new_login["login_id"]})

    for verb in ("redeem", "resume", "cancel"):
        for secret in (own["secret"], new_login["scene"], new_login["login_id"], "A" * 43):
            answer = await onlooker.emit(
                verb, {"login_id": new_login["login_id"], "secret": secret}
            )
            assert answer["error"] == "invalid_grant"
    await phone.post("scan", {"scene": own["scene"]})
    assert await onlooker.push() == ("login-scanned", {"login_id": own["login_id"]})
    assert (await browser.emit("redeem", secret_of(new_login)))["access_token"]


async def test_an_unknown_person_registers_and_confirms_the_same_code(
    new_browser: NewBrowser, start_broker: StartBroker
) -> None:
    register = FixedDirectory()
    broker = await start_broker(register, register_url="https://site.example/register")
    browser = new_browser()
    await browser.connect(broker.url, {"app": "default"})
    new_login = await begin(browser)

    async with PhoneClient(broker.phones) as phone:
        await phone.post("scan", {"scene": new_login["scene"]})
        refused = await phone.post("confirm", {"login_id": new_login["login_id"]})
        assert (refused.status, refused.body["error"]) == (403, "unregistered_user")
        assert refused.body["register_url"] == "https://site.example/register"
        resumed = await browser.emit("resume", secret_of(new_login))
        assert 590 <= resumed.pop("expires_in") <= 600
        assert resumed == {
            "login_id": new_login["login_id"],
            "state": "scanned",
            "unregistered": True,
            "register_url": "https://site.example/register",
        }
        register.known.add("alice")
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


async def test_an_unknown_app_is_turned_away(
    new_browser: NewBrowser, broker: RunningBroker
) -> None:
    with pytest.raises(Refused) as refusal:
        await new_browser().connect(broker.url, {"app": "nobody"})
    assert refusal.value.data["error"] == "invalid_client"


async def test_a_phone_without_a_session_is_turned_away(
    new_browser: NewBrowser, broker: RunningBroker
) -> None:
    proof = {"id": "A" * 22, "skey": "B" * 43}
    with pytest.raises(Refused) as refusal:
        await new_browser().connect(broker.url, proof, "/phone")
    assert refusal.value.data["error"] == "invalid_session"


async def test_an_event_that_is_none_is_answered(browser: BrowserClient) -> None:
    assert (await browser.emit("launch", {}))["error"] == "invalid_request"


async def test_the_official_client_upgrades_from_polling(broker: RunningBroker) -> None:
    browser = NodeBrowser({})
    try:
        await browser.connect(broker.url)

        async def is_upgraded() -> bool:
            return await browser.transport() == "websocket"

        await eventually(is_upgraded)
        assert await begin(browser)
    finally:
        await browser.close()
