"""How a broker ends: newcomers go elsewhere, whoever is in is served, nobody is cut short."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from yarl import URL

from broker.app import build
from broker.identity.ports import CodePicture
from broker.infrastructure.runtime import server as processes
from broker.infrastructure.runtime.server import Site, serve_sites
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.transport.socketio import server as strict
from broker.providers.pretend import PretendProvider
from broker.settings import load_settings
from tests.support.clients import BrowserClient, NodeBrowser, PhoneClient, PythonBrowser
from tests.support.commands import serving as command
from tests.support.environment import free_port
from tests.support.waiting import eventually, listens

HANDSHAKE = "/socket.io/?EIO=4&transport="


class Ending(NamedTuple):
    """A broker in this process: its address, and how it is told to drain and to end.

    It ends before the test's browser does, which may be waiting in a long poll.
    """

    url: str
    drain: Callable[[], None]
    end: Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture
async def ending(
    tmp_path: Path, records_file: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ending]:
    monkeypatch.chdir(tmp_path)
    broker = build(load_settings(records_url=f"sqlite+aiosqlite:///{records_file}"))
    site = Site("broker", broker.public, "127.0.0.1", 0, "PORT")
    async with AsyncExitStack() as stack:
        addresses = await stack.enter_async_context(serve_sites([site]))
        yield Ending(addresses["broker"], broker.drain, stack.aclose)


@pytest.fixture(params=["websocket", "polling", "official"])
async def browser(request: pytest.FixtureRequest) -> AsyncIterator[BrowserClient]:
    official = request.param == "official"
    browser = NodeBrowser({}) if official else PythonBrowser([request.param])
    yield browser
    await browser.close()


class Slow:
    """A provider's `draw` that begins and does not end before it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began, self.released = asyncio.Event(), asyncio.Event()
        draw = PretendProvider.draw

        async def drawn(provider: PretendProvider, scene: str) -> CodePicture:
            self.began.set()
            await self.released.wait()
            return await draw(provider, scene)

        monkeypatch.setattr(PretendProvider, "draw", drawn)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    return Slow(monkeypatch)


async def end_during(slow: Slow, ending: Ending) -> None:
    """Begin to end the broker, then release what it is at, and wait for its end."""
    end = asyncio.create_task(ending.end())
    await eventually(lambda: not listens(URL(ending.url).port))
    slow.released.set()
    await end


async def is_draining(url: str) -> bool:
    async with aiohttp.ClientSession(url) as http, http.get("/health/ready") as response:
        return response.status == 503


async def test_it_is_alive_and_not_ready(ending: Ending) -> None:
    ending.drain()

    async with aiohttp.ClientSession(ending.url) as http:
        async with http.get("/health/ready") as response:
            answer = await response.json()
            assert (response.status, answer["error"]) == (503, "temporarily_unavailable")
            assert answer["error_description"] == "draining"
        async with http.get("/health/live") as response:
            assert response.status == 200


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_new_sockets_go_elsewhere(ending: Ending, transport: str) -> None:
    ending.drain()

    headers = {"Connection": "Upgrade", "Upgrade": "websocket"} if transport == "websocket" else {}
    async with (
        aiohttp.ClientSession(ending.url) as http,
        http.get(HANDSHAKE + transport, headers=headers) as response,
    ):
        assert response.status == 503
        assert int(response.headers["Retry-After"]) > 0


async def test_a_device_begins_elsewhere(ending: Ending) -> None:
    ending.drain()

    async with (
        aiohttp.ClientSession(ending.url) as http,
        http.post("/oauth/device_authorization", data={"client_id": "default"}) as response,
    ):
        assert response.status == 503
        assert int(response.headers["Retry-After"]) > 0
        assert (await response.json())["error"] == "temporarily_unavailable"


async def test_whoever_is_in_begins_no_more_and_goes_on(
    browser: BrowserClient, ending: Ending
) -> None:
    await browser.connect(ending.url)
    begun = await browser.emit("begin", {})
    mine = {"login_id": begun["login_id"], "secret": begun["secret"]}

    ending.drain()

    refused = await browser.emit("begin", {})
    assert refused["error"] == "temporarily_unavailable"
    assert refused["retry_after"] > 0
    async with PhoneClient(ending.url) as phone:
        await phone.post("scan", {"scene": begun["scene"]})
        assert (await browser.push())[0] == "login-scanned"
        await phone.post("confirm", {"login_id": begun["login_id"]})
        assert (await browser.push())[0] == "login-confirmed"
    assert (await browser.emit("redeem", mine))["subject"] == "pretend:alice"


async def test_an_act_under_way_is_answered_before_its_socket_closes(
    browser: BrowserClient, ending: Ending, slow: Slow
) -> None:
    await browser.connect(ending.url)
    asked = asyncio.create_task(browser.emit("begin", {}))
    await slow.began.wait()

    await end_during(slow, ending)

    assert "secret" in await asked
    assert (await browser.push())[0] == "disconnect"


async def test_a_request_under_way_is_answered(ending: Ending, slow: Slow) -> None:
    form = {"client_id": "default"}
    async with aiohttp.ClientSession(ending.url) as http:
        asked = asyncio.create_task(http.post("/oauth/device_authorization", data=form))
        await slow.began.wait()

        await end_during(slow, ending)

        assert (await asked).status == 200


async def test_what_takes_too_long_is_not_waited_for(
    ending: Ending, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert strict.CLOSE_TIMEOUT + 2 * processes.SHUTDOWN_TIMEOUT < 8
    monkeypatch.setattr(strict, "CLOSE_TIMEOUT", 0.2)
    browser = PythonBrowser(["websocket"])
    await browser.connect(ending.url)
    asked = asyncio.create_task(browser.emit("begin", {}))
    await slow.began.wait()

    await ending.end()

    assert not slow.released.is_set()
    asked.cancel()
    await browser.close()


@pytest.mark.parametrize("browser", ["official"], indirect=True)
async def test_its_browsers_come_back_by_themselves_to_whoever_serves_then(
    tmp_path: Path, browser: BrowserClient
) -> None:
    port = free_port()
    place = {"SCAN_LOGIN_PORT": str(port), "SCAN_LOGIN_DRAIN": "0"}
    with command(tmp_path, **place) as (former, _):
        await browser.connect(f"http://127.0.0.1:{port}")
        former.send_signal(signal.SIGTERM)

        event, _ = await browser.push()

        assert event == "disconnect"
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        with command(tmp_path, **place):
            assert await browser.push() == ("connect", None)
            assert "secret" in await browser.emit("begin", {})


async def test_the_official_client_hears_that_the_transport_closed(ending: Ending) -> None:
    """At "io server disconnect" it would stay away."""
    browser = NodeBrowser({"transports": ["websocket"]})
    await browser.connect(ending.url)

    await ending.end()

    assert await browser.push() == ("disconnect", "transport close")
    await browser.close()


async def test_sigterm_leaves_load_balancers_two_seconds_and_ends_within_ten(
    tmp_path: Path,
) -> None:
    drain = load_settings()[ServerSettings].drain
    assert drain == 2
    assert drain + strict.CLOSE_TIMEOUT + 2 * processes.SHUTDOWN_TIMEOUT < 10
    quiet = {"SCAN_LOGIN_PORT": "0", "SCAN_LOGIN_LOG_LEVEL": "warning", "SCAN_LOGIN_DRAIN": "5"}
    with command(tmp_path, **quiet) as (process, line):
        url = line.split(" ready on ")[1].split()[0]
        process.send_signal(signal.SIGTERM)
        async with aiohttp.ClientSession(url) as http:
            await eventually(lambda: is_draining(url))
            async with http.get("/.well-known/jwks.json") as response:
                assert response.status == 200

        output, errors = await asyncio.to_thread(process.communicate, timeout=60)

        assert (process.returncode, output, errors) == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_whoever_cannot_wait_says_so_again(tmp_path: Path, number: signal.Signals) -> None:
    variables = {"SCAN_LOGIN_PORT": "0", "SCAN_LOGIN_DRAIN": "60"}
    with command(tmp_path, **variables) as (process, line):
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: is_draining(line.split(" ready on ")[1].split()[0]))
        assert process.poll() is None

        process.send_signal(number)

        process.communicate(timeout=30)
        assert process.returncode == 0


async def test_what_a_shell_began_in_the_background_ends_by_sigint_too(tmp_path: Path) -> None:
    """Such a process begins with the signal ignored."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with command(tmp_path, SCAN_LOGIN_PORT="0") as (process, _):
            process.send_signal(signal.SIGINT)

            process.communicate(timeout=30)
            assert process.returncode == 0
    finally:
        signal.signal(signal.SIGINT, former)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
async def test_ctrl_c_and_a_terminal_that_closes_do_not_wait(
    tmp_path: Path, number: signal.Signals
) -> None:
    variables = {"SCAN_LOGIN_PORT": "0", "SCAN_LOGIN_DRAIN": "60"}
    with command(tmp_path, **variables) as (process, _):
        process.send_signal(number)

        process.communicate(timeout=30)
        assert process.returncode == 0
