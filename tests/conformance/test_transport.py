"""Tests of the transport with sockets that send invalid data or behave incorrectly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
import structlog

from broker.app import build
from broker.identity.ports import CodePicture
from broker.infrastructure.runtime.server import Site, serve_sites
from broker.infrastructure.runtime.settings import ServerSettings
from broker.infrastructure.transport.engineio import heartbeat
from broker.infrastructure.transport.fallback import engine as fallback_engine
from broker.infrastructure.transport.fallback import server as fallback_server
from broker.infrastructure.transport.settings import ENGINES
from broker.infrastructure.transport.websocket import closing
from broker.providers.pretend import PretendProvider
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import NodeBrowser, PythonBrowser, Refused
from tests.support.loop_clock import LoopClock
from tests.support.polling import open_polling, polling
from tests.support.waiting import eventually
from tests.support.websocket_client import raw_transport

PATH = "/socket.io/?EIO=4&transport=websocket"

SetLimits = Callable[..., None]


@pytest.fixture(params=ENGINES, autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test runs with each engine."""
    monkeypatch.setenv("SCAN_LOGIN_ENGINE", request.param)
    return str(request.param)


@pytest.fixture
def set_limits(monkeypatch: pytest.MonkeyPatch) -> SetLimits:
    """Change limits of both engines."""

    def change(**limits: float) -> None:
        modules = (fallback_engine, fallback_server, heartbeat, closing)
        for name, limit in limits.items():
            owners = [module for module in modules if hasattr(module, name)]
            assert len(owners) > 1, name
            for module in owners:
                monkeypatch.setattr(module, name, limit)

    return change


@asynccontextmanager
async def raw_socket(url: str, **headers: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Open a WebSocket with the Engine.IO handshake, without a namespace."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(url + PATH, headers=headers, autoclose=False) as socket,
    ):
        opened = await socket.receive_str()
        assert opened[0] == "0"
        yield socket


async def join(socket: aiohttp.ClientWebSocketResponse) -> None:
    await socket.send_str("40/login,")
    assert (await socket.receive_str()).startswith("40/login,")


async def is_closed_by_server(
    socket: aiohttp.ClientWebSocketResponse, within: float = 30.0
) -> bool:
    """Return whether the server closes the socket in time."""
    try:
        async with asyncio.timeout(within):
            while True:
                if (await socket.receive()).type in (
                    aiohttp.WSMsgType.CLOSE,
                    aiohttp.WSMsgType.CLOSED,
                    aiohttp.WSMsgType.ERROR,
                ):
                    return True
    except TimeoutError:
        return False


async def is_serving(url: str) -> bool:
    """Return whether the broker serves another socket."""
    async with raw_socket(url) as socket:
        await join(socket)
        await socket.send_str('42/login,1["begin",{}]')
        answer: bool = '"secret"' in await socket.receive_str()
        return answer


async def test_handshake_has_the_size_limit_and_no_compression(broker: RunningBroker) -> None:
    offer = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(broker.url + PATH, headers=offer) as socket,
    ):
        opened = json.loads((await socket.receive_str())[1:])
        assert opened["maxPayload"] == 65536
        assert socket.compress == 0


async def test_socket_without_namespace_is_closed(
    broker: RunningBroker, loop_clock: LoopClock
) -> None:
    async with raw_socket(broker.url) as idle, raw_socket(broker.url) as joined:
        await join(joined)

        await loop_clock.move(heartbeat.JOIN_TIMEOUT + 2)  # a tick of the timer wheel is one second

        assert await is_closed_by_server(idle)
        await joined.send_str('42/login,1["begin",{}]')
        assert '"secret"' in await joined.receive_str()


async def test_socket_that_leaves_all_namespaces_is_closed(
    broker: RunningBroker, set_limits: SetLimits
) -> None:
    async with raw_socket(broker.url) as socket:
        await join(socket)
        set_limits(JOIN_TIMEOUT=0.2)

        await socket.send_str("41/login,")

        assert await is_closed_by_server(socket)


async def test_polling_session_without_namespace_is_closed(
    broker: RunningBroker, set_limits: SetLimits
) -> None:
    set_limits(JOIN_TIMEOUT=0.2)
    async with aiohttp.ClientSession(broker.url) as http:
        sid = await open_polling(http)

        async def is_closed() -> bool:
            async with http.get(polling(sid)) as response:
                return response.status == 400

        await eventually(is_closed)


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "x",
        "9",
        "4",
        "4x",
        "49",
        "42",
        '42{"a":1}',
        "42[]",
        "42[1]",
        '42/login,["connect",{}]',
        '42/login,["disconnect","x"]',
        "42/login,7",
        "42/login,[",
        "42/login," + "[" * 30_000,
        "42/login," + "9" * 5_000,
        '451-/login,["begin",{"_placeholder":true,"num":0}]',
        '4510000000000-/login,["begin"]',
        "40/login,",
        "40/nowhere",
        "41/nowhere,",
        "43/login,1[]",
        "4\ud7ff",
        "b////",
    ],
)
async def test_malformed_frame_does_not_affect_other_sockets(
    broker: RunningBroker, frame: str
) -> None:
    async with raw_socket(broker.url) as socket:
        await join(socket)
        await socket.send_str(frame)

        assert await is_serving(broker.url)


@pytest.mark.parametrize(
    "frame",
    [
        "x",
        "4{}",
        "4" + "[" * 1_100,
        '42/login,["*"]',
        '42/login,["connect",{}]',
        '42/login,["disconnect","x"]',
        '451-/login,["begin"]',
        "42/login,[",
        "42/login,{}",
        "40/" + "n" * 65 + ",",
    ],
)
async def test_malformed_frame_closes_its_socket(broker: RunningBroker, frame: str) -> None:
    async with raw_socket(broker.url) as socket:
        await join(socket)
        await socket.send_str(frame)

        assert await is_closed_by_server(socket)


async def test_session_has_one_websocket(broker: RunningBroker) -> None:
    """Otherwise replaced sockets would stay open after the session is closed."""
    async with aiohttp.ClientSession(broker.url) as http:
        sid = await open_polling(http)
        async with http.ws_connect(f"{PATH}&sid={sid}"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
                await http.ws_connect(f"{PATH}&sid={sid}")
        assert refusal.value.status == 400


async def test_unfinished_probe_is_closed_and_repeatable(
    broker: RunningBroker, set_limits: SetLimits
) -> None:
    set_limits(JOIN_TIMEOUT=0.3)
    async with aiohttp.ClientSession(broker.url) as http:
        sid = await open_polling(http)
        url = polling(sid)
        async with http.post(url, data="40/login,") as response:
            assert response.status == 200
        for _ in range(2):
            async with http.ws_connect(f"{PATH}&sid={sid}") as socket:
                assert await is_closed_by_server(socket)


async def test_session_that_never_polls_is_dropped(
    broker: RunningBroker, set_limits: SetLimits
) -> None:
    set_limits(JOIN_TIMEOUT=3600.0)
    async with aiohttp.ClientSession(broker.url) as http:
        sid = await open_polling(http)
        url = polling(sid)

        async def is_dropped() -> bool:
            async with http.post(url, data="\x1e".join("5" * 16)) as response:
                return response.status == 400

        await eventually(is_dropped)


async def test_body_in_two_pieces_is_read_completely(
    broker: RunningBroker, received: bytearray
) -> None:
    async with aiohttp.ClientSession(broker.url) as http:
        sid = await open_polling(http)
        url = polling(sid)
        port = broker.settings[ServerSettings].port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"POST {url} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n40/".encode())
        await eventually(lambda: received.endswith(b"40/"))
        writer.write(b"login,")
        assert b" 200 " in await reader.readline()
        writer.close()

        async with http.get(url) as response:
            assert (await response.text()).startswith("40/login,")


async def test_websocket_request_without_headers_is_refused(broker: RunningBroker) -> None:
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.get(PATH, headers={"Upgrade": "websocket"}) as response,
    ):
        assert response.status == 400


async def test_closing_socket_that_does_not_read_is_aborted(
    broker: RunningBroker, set_limits: SetLimits
) -> None:
    """The TCP window is full, so the close frame cannot be sent."""
    set_limits(CLOSE_TIMEOUT=0.2)
    async with raw_socket(broker.url) as socket:
        await join(socket)
        await socket.send_str("1")

        assert await is_closed_by_server(socket)


async def test_binary_frame_closes_its_socket(broker: RunningBroker) -> None:
    async with raw_socket(broker.url) as socket:
        await join(socket)
        await socket.send_bytes(b"\x00\xff")

        assert await is_closed_by_server(socket)


@pytest.mark.parametrize("size", [65_537, 500_000])
async def test_frame_over_64_kb_closes_its_socket(broker: RunningBroker, size: int) -> None:
    async with raw_socket(broker.url) as socket:
        await join(socket)
        await socket.send_str('42/login,1["begin",{"x":"' + "x" * size + '"}]')

        assert await is_closed_by_server(socket)
        assert await is_serving(broker.url)


async def test_frame_below_64_kb_is_answered(broker: RunningBroker) -> None:
    async with raw_socket(broker.url) as socket:
        await join(socket)
        await socket.send_str('42/login,1["begin",{"x":"' + "x" * 65_000 + '"}]')

        assert '"login_id"' in await socket.receive_str()


@pytest.mark.parametrize("body", [b"x" * 70_000, b"\xff\xfe", b"", b"x", b"\x1e" * 40, b"d=4"])
async def test_malformed_polling_body_causes_no_server_error(
    broker: RunningBroker, body: bytes
) -> None:
    async with aiohttp.ClientSession(broker.url) as http:
        sid = await open_polling(http)
        async with http.post(polling(sid), data=body) as response:
            assert response.status in (200, 400)
    assert await is_serving(broker.url)


@pytest.mark.parametrize(
    "query",
    ["", "EIO=3&transport=polling", "EIO=4&transport=pigeon", "EIO=4&transport=polling&sid=x"],
)
async def test_invalid_handshake_is_refused(broker: RunningBroker, query: str) -> None:
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.get(f"/socket.io/?{query}") as response,
    ):
        assert response.status == 400


async def test_slow_reader_is_dropped(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sends requests and never reads. The stored responses are bounded."""
    broker = await start_broker(begins_per_minute=1_000_000)
    async with raw_socket(broker.url) as socket:
        await join(socket)
        raw_transport(socket).pause_reading()
        async with asyncio.timeout(60):
            with pytest.raises((ConnectionError, aiohttp.ClientError)):
                await send_forever(socket)
    assert await is_serving(broker.url)


async def send_forever(socket: aiohttp.ClientWebSocketResponse) -> None:
    while True:
        await socket.send_str('42/login,1["begin",{}]')
        await asyncio.sleep(0)


async def test_pages_of_other_origins_cannot_connect(start_broker: StartBroker) -> None:
    broker = await start_broker(origins="https://site.example,https://shop.example")
    async with aiohttp.ClientSession() as http:
        for origin, status in [
            ("https://site.example", 101),
            ("https://shop.example", 101),
            ("https://evil.example", 400),
            ("https://site.example.evil.example", 400),
            ("http://site.example", 400),
            ("null", 400),
        ]:
            try:
                async with http.ws_connect(broker.url + PATH, headers={"Origin": origin}):
                    seen = 101
            except aiohttp.WSServerHandshakeError as error:
                seen = error.status
            assert (origin, seen) == (origin, status)


async def test_refused_origin_is_logged_once(start_broker: StartBroker) -> None:
    broker = await start_broker()
    with structlog.testing.capture_logs() as lines:
        async with aiohttp.ClientSession(broker.url) as http:
            for origin in ["https://a.example", "https://a.example", "https://b.example"]:
                async with http.get(PATH, headers={"Origin": origin}) as response:
                    assert response.status == 400

    assert [line["origin"] for line in lines] == ["https://a.example", "https://b.example"]


async def test_client_without_origin_is_accepted(broker: RunningBroker) -> None:
    assert await is_serving(broker.url)


async def test_other_namespaces_are_refused(broker: RunningBroker) -> None:
    for namespace in ("/", "/admin"):
        browser = PythonBrowser(["websocket"])
        with pytest.raises(Refused):
            await browser.connect(broker.url, namespace=namespace)
        await browser.close()


async def test_events_of_one_socket_are_answered_in_order(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order also holds if the first event takes longest."""
    draw = PretendProvider.draw
    first_began, first_may_end = asyncio.Event(), asyncio.Event()

    async def slow(self: PretendProvider, scene: str) -> CodePicture:
        if not first_began.is_set():
            first_began.set()
            await first_may_end.wait()
        return await draw(self, scene)

    monkeypatch.setattr(PretendProvider, "draw", slow)
    async with raw_socket(broker.url) as socket:
        await join(socket)
        for number in range(20):
            await socket.send_str(f'42/login,{number}["begin",{{}}]')
        await first_began.wait()
        assert await is_serving(broker.url)  # events of another socket are answered
        first_may_end.set()

        answers = [await socket.receive_str() for _ in range(20)]

        assert [answer.split("[")[0] for answer in answers] == [
            f"43/login,{number}" for number in range(20)
        ]


async def test_stopping_broker_closes_its_sockets(start_broker: StartBroker) -> None:
    settings = (await start_broker()).settings
    browser = NodeBrowser({"transports": ["websocket"], "reconnection": False})
    site = Site("broker", build(settings).public, "127.0.0.1", 0, "PORT")

    async with serve_sites([site]) as addresses:
        await browser.connect(addresses["broker"])

    assert (await browser.push())[0] == "disconnect"
    await browser.close()
