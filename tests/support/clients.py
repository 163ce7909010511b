"""Browsers and phones: python-socketio's client, the official client, and HTTP."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any, NamedTuple, Protocol, Self

import aiohttp
import socketio

from tests.support.environment import ROOT, miss, need
from tests.support.http_client import HTTPClient

DRIVER = ROOT / "tests/clients/js/browser.js"
Payload = dict[str, Any]
WAIT = 30.0
"""Maximum seconds of a connect, an answer or a push on a busy machine."""


class Refused(Exception):
    """The server refused CONNECT with `data`."""

    def __init__(self, data: Any) -> None:
        super().__init__(str(data))
        self.data = data


def http_session(url: str | None, tls: ssl.SSLContext | None) -> aiohttp.ClientSession:
    connector = None if tls is None else aiohttp.TCPConnector(ssl=tls)
    return aiohttp.ClientSession(url, connector=connector)


class BrowserClient(Protocol):
    async def connect(self, url: str, auth: object = None, namespace: str = "/login") -> None: ...
    async def emit(self, event: str, *arguments: object) -> Any: ...
    async def push(self) -> tuple[str, Any]: ...
    async def cut(self) -> None: ...
    async def close(self) -> None: ...


class PythonBrowser:
    """python-socketio's own client.

    tls: the context for a server with https.
    """

    def __init__(self, transports: list[str], tls: ssl.SSLContext | None = None) -> None:
        self._transports = transports
        self._http = http_session(None, tls)
        self._client = socketio.AsyncClient(
            http_session=self._http, reconnection_delay=0.05, reconnection_delay_max=0.1
        )
        self._pushes: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.disconnected = asyncio.Event()

    async def connect(self, url: str, auth: object = None, namespace: str = "/login") -> None:
        self._namespace = namespace
        refusals: list[Any] = []
        self._client.on("*", self._on_event, namespace=namespace)
        self._client.on("connect_error", refusals.append, namespace=namespace)
        try:
            await self._client.connect(
                url,
                auth=auth,
                namespaces=[namespace],
                transports=self._transports,
                wait_timeout=WAIT,  # one second by default, which a busy machine exceeds
            )
        except socketio.exceptions.ConnectionError as error:
            await self.close()  # the caller has no connected browser to close
            data = refusals[0].get("data") if refusals and isinstance(refusals[0], dict) else None
            raise Refused(data or str(error)) from None
        self._client.on("connect", self._on_connect, namespace=namespace)
        self._client.on("disconnect", self._on_disconnect, namespace=namespace)

    async def _on_event(self, event: str, payload: Any = None) -> None:
        self._pushes.put_nowait((event, payload))

    async def _on_connect(self) -> None:
        self._pushes.put_nowait(("connect", None))

    async def _on_disconnect(self, reason: str) -> None:
        self.disconnected.set()
        self._pushes.put_nowait(("disconnect", reason))

    async def emit(self, event: str, *arguments: object) -> Any:
        return await self._client.call(
            event, tuple(arguments), namespace=self._namespace, timeout=WAIT
        )

    async def push(self) -> tuple[str, Any]:
        async with asyncio.timeout(WAIT):
            return await self._pushes.get()

    async def cut(self) -> None:
        await self._client.eio.ws.close()

    async def break_off(self) -> None:
        """Close the connection without reading, after the queued packets have been sent."""
        await self._client.eio.queue.join()
        self._client.eio.ws._response.connection.transport.abort()

    async def close(self) -> None:
        await asyncio.sleep(0)  # shutdown fails if a reconnect has not started
        await self._client.shutdown()
        await self._http.close()


class NodeBrowser:
    """The official socket.io-client in Node, controlled by lines of JSON."""

    def __init__(self, options: Payload) -> None:
        self._options = options
        self._process: asyncio.subprocess.Process | None = None
        self._answers: asyncio.Queue[Payload] = asyncio.Queue()
        self._pushes: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    async def connect(self, url: str, auth: object = None, namespace: str = "/login") -> None:
        if not (DRIVER.parent / "node_modules").exists():
            miss("the official client is not installed: run make test")
        self._process = await asyncio.create_subprocess_exec(
            need("node"),
            str(DRIVER),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        self._reader = asyncio.create_task(self._read())
        options = self._options if auth is None else {**self._options, "auth": auth}
        answer = await self._do({"do": "connect", "url": url + namespace, "options": options})
        if "refused" in answer:
            raise Refused(answer["refused"]["data"])

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            message = json.loads(line)
            if "push" in message:
                self._pushes.put_nowait((message["push"], message["payload"]))
            else:
                self._answers.put_nowait(message)

    async def _do(self, command: Payload) -> Payload:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        async with asyncio.timeout(WAIT):
            return await self._answers.get()

    async def transport(self) -> str:
        return str((await self._do({"do": "transport"}))["answer"])

    async def emit(self, event: str, *arguments: object) -> Any:
        message = await self._do({"do": "emit", "event": event, "arguments": list(arguments)})
        return message["answer"]

    async def push(self) -> tuple[str, Any]:
        async with asyncio.timeout(WAIT):
            return await self._pushes.get()

    async def cut(self) -> None:
        await self._do({"do": "cut"})

    async def close(self) -> None:
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.write(b'{"do": "close"}\n')
        async with asyncio.timeout(WAIT):
            await self._process.wait()
        await self._reader


class Answer(NamedTuple):
    status: int
    body: Any
    headers: Any


class PhoneClient(HTTPClient):
    """A phone over HTTP.

    js_code: the proof; default is a proof of the pretend provider for `name`.
    tls: the context for a server with https.
    """

    def __init__(
        self,
        url: str,
        name: str = "alice",
        js_code: str | None = None,
        app: str = "default",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(http_session(url, tls))
        self._app = app
        self._js_code = js_code or f"pretend:{name}"
        self.session: Payload = {}

    async def __aenter__(self) -> Self:
        try:
            answer = await self.post("session", {"app": self._app, "js_code": self._js_code})
        except BaseException:
            await self.http.close()
            raise
        self.session = answer.body
        return self

    @property
    def bearer(self) -> str:
        return f"Bearer {self.session['id']}.{self.session['skey']}"

    async def post(self, verb: str, body: object) -> Answer:
        headers = {"Authorization": self.bearer} if self.session else {}
        async with self.http.post(f"/phone/{verb}", json=body, headers=headers) as response:
            return Answer(response.status, await response.json(), response.headers)

    async def get(self, what: str) -> Answer:
        return await self._ask("GET", what)

    async def delete(self, what: str) -> Answer:
        """End this session (`session`), all `sessions` of the person, or `signins`."""
        return await self._ask("DELETE", what)

    async def _ask(self, method: str, what: str) -> Answer:
        headers = {"Authorization": self.bearer}
        async with self.http.request(method, f"/phone/{what}", headers=headers) as response:
            return Answer(response.status, await response.json(), response.headers)


class SocketPhone:
    """A phone over Socket.IO with a session that was opened over HTTP."""

    def __init__(self, browser: BrowserClient) -> None:
        self._client = browser

    async def close(self) -> None:
        await self._client.close()

    async def connect(self, url: str, session: Payload) -> None:
        auth = {"id": session["id"], "skey": session["skey"]}
        await self._client.connect(url, auth, "/phone")

    async def post(self, verb: str, body: object) -> Answer:
        answer = await self._client.emit(verb, body)
        return Answer(400 if "error" in answer else 200, answer, {})
