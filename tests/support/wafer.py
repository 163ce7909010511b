"""A business server with a Wafer SDK: its calls and its callbacks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web

from broker.wafer.signing import client_id, signature
from tests.support.app_admin import TOKEN
from tests.support.builders import RunningBroker
from tests.support.clients import Answer
from tests.support.environment import ROOT, free_port
from tests.support.http_site import serving
from tests.support.waiting import eventually

Fields = dict[str, Any]


def session_call(name: str, **para: object) -> Fields:
    """Return the body of a session call."""
    interface = {"interfaceName": f"qcloud.cam.{name}", "para": para}
    return {"version": 1, "componentName": "MA", "interface": interface}


class SessionServer:
    """The session calls of a business server.

    path: of the calls; another one for each app.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str, path: str = "/mina_auth/") -> None:
        self._http = http
        self._url = url + path

    async def post(self, body: bytes | object, **headers: str) -> Answer:
        sent = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self._http.post(self._url, headers=headers, **sent) as response:
            return Answer(response.status, await response.json(), response.headers)

    async def call(self, name: str, **para: object) -> Fields:
        answer = await self.post(session_call(name, **para))
        assert answer.status == 200, answer
        return dict(answer.body)

    async def open(self, js_code: str = "pretend:alice") -> Fields:
        return await self.call("id_skey", code=js_code)


HOST, KEY = "127.0.0.2", "9f338d1f0ecc37d25ac7b161c1d7bf72"


class Packet(NamedTuple):
    """A callback.  content: None without one."""

    tunnel_id: str
    type: str
    content: str | None
    headers: Mapping[str, str]


class BusinessServer:
    """Receives callbacks, and checks their signatures.

    answers: those of the next callbacks of a type, as status and body; others are accepted.
    held: until it is set, callbacks get no answer.  in_flight: those callbacks.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/tunnel"
        self.answers: dict[str, list[tuple[int, object]]] = {}
        self.packets: list[Packet] = []
        self.held: asyncio.Event | None = None
        self.in_flight = 0

    async def receive(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        assert body["signature"] == signature(body["data"], KEY)
        fields = json.loads(body["data"])
        packet = Packet(fields["tunnelId"], fields["type"], fields.get("content"), request.headers)
        self.packets.append(packet)
        if self.held is not None:
            self.in_flight += 1
            await self.held.wait()
            self.in_flight -= 1
        answers = self.answers.get(packet.type)
        status, answer = answers.pop(0) if answers else (200, {"code": 0, "message": "ok"})
        return web.json_response(answer, status=status)

    def types(self) -> list[str]:
        return [packet.type for packet in self.packets]

    async def received(self, *types: str) -> None:
        """Wait until callbacks of these types, and no others, have arrived in this order."""
        await eventually(lambda: self.types() == [*types])


@asynccontextmanager
async def serving_business() -> AsyncIterator[BusinessServer]:
    port = free_port()
    business = BusinessServer(port)
    application = web.Application()
    application.router.add_post("/tunnel", business.receive)
    async with serving(application, port):
        yield business


WAFER_SETTINGS: Fields = {
    "wafer_host": HOST,
    "wafer_key": KEY,
    "wafer_callbacks_private": True,
}


SDK_FOLDER = ROOT / "tests/clients/wafer"


class Layout(NamedTuple):
    """url: of the app's Wafer calls.  broker: of an instance.  app: the id of the app."""

    url: str
    broker: RunningBroker
    app: str


SDK_SETTINGS = {**WAFER_SETTINGS, "wafer_heartbeat_interval": 1, "admin_token": TOKEN}


class TunnelCalls:
    """The tunnel calls of a business server, which are signed."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, *, key: str = KEY, host: str = HOST
    ) -> None:
        self._http = http
        self._url = url
        self._key = key
        self._host = host

    def signed(self, data: object) -> Fields:
        text = data if isinstance(data, str) else json.dumps(data)
        return {
            "data": text,
            "tcId": client_id(self._host),
            "tcKey": self._key,
            "signature": signature(text, self._key),
        }

    async def post(self, path: str, body: bytes | object) -> Fields:
        sent = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self._http.post(self._url + path, **sent) as response:
            assert response.status == 200, await response.text()
            return dict(await response.json())

    async def create(self, receive_url: object) -> Fields:
        data = {"receiveUrl": receive_url, "protocolType": "wss"}
        return await self.post("/get/wsurl", self.signed(data))

    async def push(self, *packets: Fields) -> Fields:
        return await self.post("/ws/push", self.signed([*packets]))


def message_packet(*tunnel_ids: str, content: object = None) -> Fields:
    text = json.dumps({"type": "speak", "content": content})
    return {"tunnelIds": [*tunnel_ids], "type": "message", "content": text}


def close_packet(*tunnel_ids: str) -> Fields:
    return {"tunnelIds": [*tunnel_ids], "type": "close"}


class WaferClient:
    """A client's end of a tunnel."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self.websocket = websocket

    async def send(self, text: str) -> None:
        await self.websocket.send_str(text)

    async def receive(self) -> str:
        """Return the next frame. Raises AssertionError if the socket closes."""
        async with asyncio.timeout(30):
            message = await self.websocket.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, (message, self.websocket.close_code)
        return str(message.data)

    async def closed(self) -> int | None:
        """Wait until the socket is closed, without a frame before, and return its code."""
        async with asyncio.timeout(30):
            message = await self.websocket.receive()
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED), message
        return self.websocket.close_code
