"""Tests of pages in the web views of apps. Their Origins have special schemes."""

from __future__ import annotations

import aiohttp
import pytest

from broker.apps.settings import AppSettings
from broker.settings import load_settings
from tests.support.builders import RunningBroker, StartBroker

WEB_VIEWS = (
    "capacitor://localhost",  # Capacitor on iOS
    "ionic://localhost",  # Ionic's web view on iOS
    "tauri://localhost",  # Tauri on macOS, iOS and Linux
    "http://tauri.localhost",  # Tauri on Windows and Android
    "app://shop",  # Electron with a protocol handler
    "app://-",
)

SOCKET = "/socket.io/?EIO=4&transport=websocket"


@pytest.fixture
async def broker(start_broker: StartBroker) -> RunningBroker:
    return await start_broker(origins=",".join(WEB_VIEWS))


def test_web_view_origins_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_LOGIN_ORIGINS", ",".join(WEB_VIEWS))

    assert load_settings()[AppSettings].origins == WEB_VIEWS


@pytest.mark.parametrize("origin", WEB_VIEWS)
async def test_web_view_page_may_open_a_socket(broker: RunningBroker, origin: str) -> None:
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.ws_connect(SOCKET, headers={"Origin": origin}) as socket,
    ):
        assert (await socket.receive_str()).startswith("0")


@pytest.mark.parametrize("origin", WEB_VIEWS)
async def test_web_view_page_may_read_token_answers(broker: RunningBroker, origin: str) -> None:
    form = {"client_id": "default"}
    async with (
        aiohttp.ClientSession(broker.url, headers={"Origin": origin}) as http,
        http.post("/oauth/device_authorization", data=form) as response,
    ):
        assert response.status == 200
        assert response.headers["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize("origin", ["null", "capacitor://evil", "file://", "tauri://localhost.x"])
async def test_other_origin_is_refused(broker: RunningBroker, origin: str) -> None:
    async with aiohttp.ClientSession(broker.url, headers={"Origin": origin}) as http:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(SOCKET)
        form = {"client_id": "default"}
        async with http.post("/oauth/device_authorization", data=form) as response:
            assert response.status == 401
