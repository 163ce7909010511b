"""A backend with the callbacks of tunnels and the events of its app, and a client of a tunnel."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self

import aiohttp
from aiohttp import web
from standardwebhooks import Webhook

from tests.support.app_admin import TOKEN
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import Answer
from tests.support.environment import free_port
from tests.support.http_site import serving
from tests.support.waiting import eventually
from tests.support.webhook import SECRET

Fields = dict[str, Any]

Respond = Callable[[Fields], Awaitable[web.StreamResponse]]


class Callback(NamedTuple):
    """type, data: of the body.  id: the header `webhook-id`."""

    type: str
    id: str
    data: Fields


async def accept(data: Fields) -> web.StreamResponse:
    return web.Response(status=204)


def reply_with(**fields: object) -> Respond:
    """Return an answer of 200 with these fields."""

    async def respond(data: Fields) -> web.StreamResponse:
        return web.json_response(fields)

    return respond


def respond(status: int, body: object) -> Respond:
    """Return an answer with a JSON body, or with none."""

    async def answer(data: Fields) -> web.StreamResponse:
        return (
            web.Response(status=status) if body is None else web.json_response(body, status=status)
        )

    return answer


class Backend:
    """Receives callbacks, and verifies their signatures.

    answers: by type; others are accepted.  callbacks: all that arrived, in order.
    verifications: the bodies of `tunnel.verify`.
    in_flight: callbacks that have no answer yet.
    in_flight_max: the most callbacks of one tunnel at a time.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook"
        self.answers: dict[str, Respond] = {}
        self.callbacks: list[Callback] = []
        self.verifications: list[Fields] = []
        self.in_flight_max = 0
        self._in_flight: dict[str, int] = {}
        self._webhook = Webhook(SECRET)

    @property
    def in_flight(self) -> int:
        return sum(self._in_flight.values())

    async def hook(self, request: web.Request) -> web.StreamResponse:
        fields = self._webhook.verify(await request.read(), dict(request.headers))
        type_, data = fields["type"], fields["data"]
        if type_ == "tunnel.verify":
            self.verifications.append(fields)
            return web.json_response({"challenge": data["challenge"]})
        self.callbacks.append(Callback(type_, request.headers["webhook-id"], data))
        tunnel_id = data.get("tunnel_id", "")
        self._in_flight[tunnel_id] = self._in_flight.get(tunnel_id, 0) + 1
        self.in_flight_max = max(self.in_flight_max, self._in_flight[tunnel_id])
        try:
            return await self.answers.get(type_, accept)(data)
        finally:
            self._in_flight[tunnel_id] -= 1

    def hold(self, type_: str, released: asyncio.Event) -> None:
        """Accept callbacks of a type, once `released` is set."""

        async def wait(data: Fields) -> web.StreamResponse:
            await released.wait()
            return await accept(data)

        self.answers[type_] = wait

    def of_type(self, type_: str) -> list[Callback]:
        return [one for one in self.callbacks if one.type == type_]

    async def received(self, type_: str, count: int = 1) -> list[Callback]:
        """Wait until `count` callbacks of the type have arrived, and return them."""
        await eventually(lambda: len(self.of_type(type_)) >= count)
        return self.of_type(type_)


@asynccontextmanager
async def serving_backend() -> AsyncIterator[Backend]:
    port = free_port()
    backend = Backend(port)
    application = web.Application(client_max_size=1 << 20)
    application.router.add_post("/hook", backend.hook)
    async with serving(application, port):
        yield backend


def tunnel_settings(backend: Backend) -> Fields:
    """The settings of a broker whose app `default` has this backend."""
    return {
        "tunnel_url": backend.url,
        "events_url": backend.url,
        "webhook_secret": SECRET,
        "webhooks_private": True,
        "admin_token": TOKEN,
    }


class TunnelServer:
    """The calls of the backend of one app."""

    def __init__(self, http: aiohttp.ClientSession, url: str, authorization: str = "") -> None:
        self._http = http
        self._url = url
        self.authorization = authorization or f"Bearer {TOKEN}"
        self._headers = {"Authorization": self.authorization}
        self._app = {} if authorization else {"app": "default"}

    async def call(self, method: str, path: str, **body: object) -> Answer:
        async with self._http.request(
            method, self._url + path, json={**self._app, **body}, headers=self._headers
        ) as response:
            answer = await response.json() if response.status != 204 else None
            return Answer(response.status, answer, response.headers)

    async def read(self, path: str, **query: str) -> Answer:
        async with self._http.get(
            self._url + path, params={**self._app, **query}, headers=self._headers
        ) as response:
            return Answer(response.status, await response.json(), response.headers)

    async def create(self, **fields: object) -> Fields:
        answer = await self.call("POST", "/tunnels", **fields)
        assert answer.status == 201, answer
        return dict(answer.body)

    async def push(self, tunnel_id: str, data: object, **fields: object) -> Answer:
        return await self.call("POST", f"/tunnels/{tunnel_id}/push", data=data, **fields)


class TunnelClient:
    """A client's end of a tunnel.

    opened: the frame `open`, which `resume` uses.
    """

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self.websocket = websocket
        self.opened: Fields = {}

    @classmethod
    async def connect(cls, http: aiohttp.ClientSession, url: str, **options: Any) -> Self:
        return cls(await http.ws_connect(url, **options))

    @classmethod
    async def open(cls, http: aiohttp.ClientSession, url: str) -> Self:
        client = await cls.connect(http, url)
        client.opened = await client.receive()
        assert client.opened["type"] == "open", client.opened
        return client

    async def resume(self, http: aiohttp.ClientSession, url: str, offset: int = 0) -> Self:
        """Resume this client's tunnel on another connection."""
        client = await self.connect(http, url)
        await client.send("resume", **self.resume_fields(offset))
        client.opened = await client.receive()
        return client

    def resume_fields(self, offset: int = 0) -> Fields:
        fields = {name: self.opened[name] for name in ("tunnel_id", "resume", "epoch")}
        return {**fields, "offset": offset}

    @property
    def tunnel_id(self) -> str:
        return str(self.opened["tunnel_id"])

    async def send(self, type_: str, **fields: object) -> None:
        await self.websocket.send_str(json.dumps({"type": type_, **fields}))

    async def receive(self) -> Fields:
        """Return the next frame. Raises AssertionError if the socket closes."""
        async with asyncio.timeout(30):
            message = await self.websocket.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, (message, self.websocket.close_code)
        return dict(json.loads(message.data))

    async def messages(self, count: int) -> list[object]:
        """Return the data of the next messages."""
        frames = [await self.receive() for _ in range(count)]
        assert {frame["type"] for frame in frames} == {"message"}
        return [frame["data"] for frame in frames]

    async def rest(self) -> list[Any]:
        """Return the data of all messages until the socket is closed."""
        received = []
        async with asyncio.timeout(60):
            while (message := await self.websocket.receive()).type is aiohttp.WSMsgType.TEXT:
                frame = json.loads(message.data)
                if frame["type"] == "message":
                    received.append(frame["data"])
        return received

    async def closed(self) -> int | None:
        """Wait until the socket is closed, skipping messages, and return its code."""
        async with asyncio.timeout(30):
            while (await self.websocket.receive()).type is aiohttp.WSMsgType.TEXT:
                continue
        return self.websocket.close_code


def socket_url(broker: RunningBroker) -> str:
    """The URL at which clients resume."""
    return f"{broker.url}/tunnel"


class TunnelWorld(NamedTuple):
    """A broker, the backend of its app `default`, and the backend's calls."""

    broker: RunningBroker
    backend: Backend
    http: aiohttp.ClientSession
    server: TunnelServer

    async def open(self, **fields: object) -> TunnelClient:
        created = await self.server.create(**fields)
        return await TunnelClient.open(self.http, created["url"])

    async def stop(self) -> None:
        """End the broker."""
        assert self.broker.stop is not None
        await self.broker.stop()

    async def is_unready(self) -> None:
        """Wait until the broker notices an outage of the state."""

        async def is_unready() -> bool:
            async with self.http.get(f"{self.broker.url}/health/ready") as response:
                return response.status == 503

        await eventually(is_unready)

    async def is_away(self, tunnel_id: str) -> None:
        """Wait until the state has recorded the loss of the socket."""

        async def is_away() -> bool:
            return (await self.server.read(f"/tunnels/{tunnel_id}")).body["state"] == "away"

        await eventually(is_away)

    async def resume(self, client: TunnelClient, offset: int = 0) -> TunnelClient:
        return await client.resume(self.http, socket_url(self.broker), offset)


@asynccontextmanager
async def tunnel_world(start_broker: StartBroker, **settings: Any) -> AsyncIterator[TunnelWorld]:
    """Start a broker whose app `default` has a backend."""
    connector = aiohttp.TCPConnector(limit=0)
    async with serving_backend() as backend, aiohttp.ClientSession(connector=connector) as http:
        broker = await start_broker(**{**tunnel_settings(backend), **settings})
        yield TunnelWorld(broker, backend, http, TunnelServer(http, broker.url))
