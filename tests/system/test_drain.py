"""A draining broker refuses new logins and sockets, and finishes logins in progress."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
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
from tests.support.app_admin import TOKEN, Admin
from tests.support.clients import BrowserClient, NodeBrowser, PhoneClient, PythonBrowser
from tests.support.commands import serving as command
from tests.support.environment import free_port
from tests.support.waiting import eventually, listens

HANDSHAKE = "/socket.io/?EIO=4&transport="


class DrainingBroker(NamedTuple):
    """A broker in this process: its address, and functions that drain and end it.

    It ends before the test's browser, which may wait in a long poll.
    """

    url: str
    drain: Callable[[], None]
    end: Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture
async def broker_process(
    tmp_path: Path, records_file: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[DrainingBroker]:
    monkeypatch.chdir(tmp_path)
    broker = build(load_settings(records_url=f"sqlite+aiosqlite:///{records_file}"))
    site = Site("broker", broker.public, "127.0.0.1", 0, "PORT")
    async with AsyncExitStack() as stack:
        addresses = await stack.enter_async_context(serve_sites([site]))
        yield DrainingBroker(addresses["broker"], broker.drain, stack.aclose)


@pytest.fixture(params=["websocket", "polling", "official"])
async def browser(request: pytest.FixtureRequest) -> AsyncIterator[BrowserClient]:
    official = request.param == "official"
    browser = NodeBrowser({}) if official else PythonBrowser([request.param])
    yield browser
    await browser.close()


class SlowDraw:
    """Makes `draw` of the provider wait until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started, self.released = asyncio.Event(), asyncio.Event()
        draw = PretendProvider.draw

        async def wait_and_draw(provider: PretendProvider, scene: str) -> CodePicture:
            self.started.set()
            await self.released.wait()
            return await draw(provider, scene)

        monkeypatch.setattr(PretendProvider, "draw", wait_and_draw)


@pytest.fixture
def slow_draw(monkeypatch: pytest.MonkeyPatch) -> SlowDraw:
    return SlowDraw(monkeypatch)


async def end_during(slow_draw: SlowDraw, broker_process: DrainingBroker) -> None:
    """Start to end the broker, then release `draw`, and wait for the end."""
    end = asyncio.create_task(broker_process.end())
    port = URL(broker_process.url).port
    assert port is not None
    await eventually(lambda: not listens(port))
    slow_draw.released.set()
    await end


async def is_draining(url: str) -> bool:
    async with aiohttp.ClientSession(url) as http, http.get("/health/ready") as response:
        return response.status == 503


async def test_draining_broker_is_alive_and_not_ready(broker_process: DrainingBroker) -> None:
    broker_process.drain()

    async with aiohttp.ClientSession(broker_process.url) as http:
        async with http.get("/health/ready") as response:
            answer = await response.json()
            assert (response.status, answer["error"]) == (503, "temporarily_unavailable")
            assert answer["error_description"] == "draining"
        async with http.get("/health/live") as response:
            assert response.status == 200


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_draining_broker_refuses_new_sockets(
    broker_process: DrainingBroker, transport: str
) -> None:
    broker_process.drain()

    headers = {"Connection": "Upgrade", "Upgrade": "websocket"} if transport == "websocket" else {}
    async with (
        aiohttp.ClientSession(broker_process.url) as http,
        http.get(HANDSHAKE + transport, headers=headers) as response,
    ):
        assert response.status == 503
        assert int(response.headers["Retry-After"]) > 0


async def test_draining_broker_refuses_device_begin(broker_process: DrainingBroker) -> None:
    broker_process.drain()

    async with (
        aiohttp.ClientSession(broker_process.url) as http,
        http.post("/oauth/device_authorization", data={"client_id": "default"}) as response,
    ):
        assert response.status == 503
        assert int(response.headers["Retry-After"]) > 0
        assert (await response.json())["error"] == "temporarily_unavailable"


async def test_open_socket_finishes_login_while_draining(
    browser: BrowserClient, broker_process: DrainingBroker
) -> None:
    await browser.connect(broker_process.url)
    login = await browser.emit("begin", {})
    credentials = {"login_id": login["login_id"], "secret": login["secret"]}

    broker_process.drain()

    refused = await browser.emit("begin", {})
    assert refused["error"] == "temporarily_unavailable"
    assert refused["retry_after"] > 0
    async with PhoneClient(broker_process.url) as phone:
        await phone.post("scan", {"scene": login["scene"]})
        assert (await browser.push())[0] == "login-scanned"
        await phone.post("confirm", {"login_id": login["login_id"]})
        assert (await browser.push())[0] == "login-confirmed"
    assert (await browser.emit("redeem", credentials))["subject"] == "pretend:alice"


async def test_pending_event_is_answered_before_socket_closes(
    browser: BrowserClient, broker_process: DrainingBroker, slow_draw: SlowDraw
) -> None:
    await browser.connect(broker_process.url)
    request_task = asyncio.create_task(browser.emit("begin", {}))
    await slow_draw.started.wait()

    await end_during(slow_draw, broker_process)

    assert "secret" in await request_task
    assert (await browser.push())[0] == "disconnect"


async def test_pending_request_is_answered_before_end(
    broker_process: DrainingBroker, slow_draw: SlowDraw
) -> None:
    form = {"client_id": "default"}
    async with aiohttp.ClientSession(broker_process.url) as http:
        request_task = asyncio.create_task(http.post("/oauth/device_authorization", data=form))
        await slow_draw.started.wait()

        await end_during(slow_draw, broker_process)

        assert (await request_task).status == 200


async def test_slow_request_does_not_delay_end(
    broker_process: DrainingBroker, slow_draw: SlowDraw, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert strict.CLOSE_TIMEOUT + 2 * processes.SHUTDOWN_TIMEOUT < 8
    monkeypatch.setattr(strict, "CLOSE_TIMEOUT", 0.2)
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker_process.url)
    request_task = asyncio.create_task(browser.emit("begin", {}))
    await slow_draw.started.wait()

    await broker_process.end()

    assert not slow_draw.released.is_set()
    request_task.cancel()
    await browser.close()


@pytest.mark.parametrize("browser", ["official"], indirect=True)
async def test_browser_reconnects_to_next_broker(tmp_path: Path, browser: BrowserClient) -> None:
    port = free_port()
    variables = {"SCAN_LOGIN_PORT": str(port), "SCAN_LOGIN_DRAIN": "0"}
    with command(tmp_path, **variables) as (first_process, _):
        await browser.connect(f"http://127.0.0.1:{port}")
        first_process.send_signal(signal.SIGTERM)

        event, _ = await browser.push()

        assert event == "disconnect"
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        with command(tmp_path, **variables):
            assert await browser.push() == ("connect", None)
            assert "secret" in await browser.emit("begin", {})


async def test_official_client_gets_transport_close(broker_process: DrainingBroker) -> None:
    """After "io server disconnect" the client does not reconnect."""
    browser = NodeBrowser({"transports": ["websocket"]})
    await browser.connect(broker_process.url)

    await broker_process.end()

    assert await browser.push() == ("disconnect", "transport close")
    await browser.close()


async def test_admin_stream_ends_before_the_shutdown_timeout(
    tmp_path: Path, records_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, "SHUTDOWN_TIMEOUT", 1_000)
    records_url = f"sqlite+aiosqlite:///{records_file}"
    broker = build(load_settings(records_url=records_url, admin_token=TOKEN))
    applications = {"broker": broker.public, "admin": broker.admin}
    sites = [Site(name, one, "127.0.0.1", 0, "PORT") for name, one in applications.items()]
    async with AsyncExitStack() as stack:
        addresses = await stack.enter_async_context(serve_sites(sites))
        async with Admin(addresses["admin"]) as admin:
            stream = await admin.http.get("/events")
            await stream.content.readline()  # the stream has begun

            async with asyncio.timeout(60):
                await stack.aclose()

            assert await stream.content.read() == b"\n"


async def test_sigterm_drains_and_ends_within_limits(
    tmp_path: Path,
) -> None:
    drain = load_settings()[ServerSettings].drain
    assert drain == 2
    assert drain + strict.CLOSE_TIMEOUT + 2 * processes.SHUTDOWN_TIMEOUT < 10
    variables = {"SCAN_LOGIN_PORT": "0", "SCAN_LOGIN_LOG_LEVEL": "warning", "SCAN_LOGIN_DRAIN": "5"}
    with command(tmp_path, **variables) as (process, line):
        url = line.split(" ready on ")[1].split()[0]
        process.send_signal(signal.SIGTERM)
        async with aiohttp.ClientSession(url) as http:
            await eventually(lambda: is_draining(url))
            async with http.get("/.well-known/jwks.json") as response:
                assert response.status == 200

        output, errors = await asyncio.to_thread(process.communicate, timeout=60)

        assert (process.returncode, output, errors) == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_second_signal_ends_drain(tmp_path: Path, number: signal.Signals) -> None:
    variables = {"SCAN_LOGIN_PORT": "0", "SCAN_LOGIN_DRAIN": "60"}
    with command(tmp_path, **variables) as (process, line):
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: is_draining(line.split(" ready on ")[1].split()[0]))
        assert process.poll() is None

        process.send_signal(number)

        process.communicate(timeout=90)
        assert process.returncode == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_draining_broker_refuses_authorization_requests(
    broker_process: DrainingBroker, method: str
) -> None:
    broker_process.drain()

    url, form = f"{broker_process.url}/oauth/authorize", {"client_id": "default"}
    async with aiohttp.ClientSession() as http, http.request(method, url, data=form) as response:
        assert response.status == 503
        assert response.content_type == "text/html"
        assert "Retry-After" in response.headers


async def test_background_process_of_shell_ends_by_sigint(tmp_path: Path) -> None:
    """A shell starts such a process with SIGINT ignored."""
    first_process = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with command(tmp_path, SCAN_LOGIN_PORT="0") as (process, _):
            process.send_signal(signal.SIGINT)

            process.communicate(timeout=90)
            assert process.returncode == 0
    finally:
        signal.signal(signal.SIGINT, first_process)


@pytest.fixture
def default_hangup() -> Iterator[None]:
    """SIGHUP has its default action: `nohup` ignores it, and child processes inherit that."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, previous)


@pytest.mark.usefixtures("default_hangup")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
async def test_ctrl_c_and_hangup_skip_drain(tmp_path: Path, number: signal.Signals) -> None:
    variables = {"SCAN_LOGIN_PORT": "0", "SCAN_LOGIN_DRAIN": "60"}
    with command(tmp_path, **variables) as (process, _):
        process.send_signal(number)

        process.communicate(timeout=90)
        assert process.returncode == 0
