"""A backend whose answers to callbacks a test sets, and callbacks that are sent to it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook

from broker.apps.model import App
from broker.apps.registry import AppRegistry
from broker.infrastructure.outbound.keep_alive import KeepAliveClient, Resolve, resolve_host
from broker.infrastructure.retries import RetryWorker
from broker.state.memory.retry_queue import MemoryRetryQueue
from broker.state.memory.tunnels import open_tunnels
from broker.tunnels.callback_sender import CallbackSender, NativeFormat, callback_turns
from broker.tunnels.callbacks import CLOSE_CALL, NativeCallbacks
from broker.tunnels.deferred_closes import CLOSE_DELAYS
from broker.tunnels.model import MessageAnswer, Opening, Tunnel
from tests.support.builders import SHOP, Clock
from tests.support.environment import free_port
from tests.support.http_site import serving
from tests.support.tunnels import a_tunnel
from tests.support.webhook import SECRET

OPENING = Opening("192.0.2.1", "agent", resumed=False)

Respond = Callable[[dict[str, Any]], Awaitable[web.StreamResponse]]


def answer(status: int = 200, **fields: object) -> Respond:
    """Answer with a JSON object."""

    async def respond(data: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(fields, status=status)

    return respond


def raw(status: int, body: str = "", **headers: str) -> Respond:
    """Answer with a body that is not JSON."""

    async def respond(data: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=status, text=body, headers=headers)

    return respond


async def verified(data: dict[str, Any]) -> web.StreamResponse:
    return web.json_response({"challenge": data["challenge"]})


class CallbackReceiver:
    """A backend that verifies signatures.

    answers: by type; one for each request, and the last one for all further ones.
    received: headers and body of each callback, apart from `tunnel.verify`.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[Respond]] = {}
        self.received: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.counts: Counter[str] = Counter()
        self.url = f"http://127.0.0.1:{free_port()}/hook"
        self.in_flight = self.in_flight_max = 0
        self._webhook = Webhook(SECRET)

    async def hook(self, request: web.Request) -> web.StreamResponse:
        headers = dict(request.headers)
        fields = self._webhook.verify(await request.read(), headers)
        kind = fields["type"].removeprefix("tunnel.")
        self.counts[kind] += 1
        if kind != "verify":
            self.received.append((headers, fields))
        default = [verified if kind == "verify" else raw(204)]
        answers = self.answers.get(kind, default)
        respond = answers.pop(0) if len(answers) > 1 else answers[0]
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            return await respond(fields["data"])
        finally:
            self.in_flight -= 1


@asynccontextmanager
async def callback_receiver() -> AsyncIterator[CallbackReceiver]:
    receiver = CallbackReceiver()
    application = web.Application()
    application.router.add_post("/hook", receiver.hook)
    async with serving(application, int(receiver.url.split(":")[2].split("/")[0])):
        yield receiver


class FixedSecrets:
    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = secrets

    def webhook_secrets(self, app_id: str) -> Sequence[str]:
        return self._secrets


class Sending:
    """Callbacks of the app `shop`.

    clock: of the state.  monotonic: of pauses.  tunnel: a tunnel of the app.
    """

    def __init__(
        self, url: str, client: KeepAliveClient, *, secrets: Sequence[str], app: App | None
    ) -> None:
        self.clock, self.monotonic = Clock(), Clock(0.0)
        self.app = app or replace(SHOP, incarnation="first")
        self.tunnel = a_tunnel(callback_url=url)
        self.stores = open_tunnels(self.clock)
        self.queue = MemoryRetryQueue(self.clock)
        self.retries = RetryWorker(queue=self.queue, clock=self.clock)
        self.callbacks = NativeCallbacks(
            apps=AppRegistry([self.app]),
            sender=CallbackSender(
                format=NativeFormat(FixedSecrets(secrets), time.time),
                client=client,
                turns=callback_turns(),
                monotonic=self.monotonic,
            ),
            records=self.stores.records,
            retries=self.retries,
        )
        self.retries.handle(CLOSE_CALL, self.callbacks.send_scheduled, CLOSE_DELAYS)

    async def message(
        self, seq: int = 1, *, tunnel: Tunnel | None = None, id: str = "", attached: bool = True
    ) -> MessageAnswer:
        async def may_repeat() -> bool:
            return attached

        async with asyncio.timeout(60):
            return await self.callbacks.message(
                tunnel or self.tunnel, seq, b'{"text":"hello"}', id, may_repeat=may_repeat
            )


@asynccontextmanager
async def sending(
    url: str,
    *,
    secrets: Sequence[str] = (SECRET,),
    app: App | None = None,
    is_private: bool = True,
    resolve: Resolve = resolve_host,
) -> AsyncIterator[Sending]:
    client = KeepAliveClient(allow_private_address=is_private, resolve=resolve)
    await client.open()
    yield Sending(url, client, secrets=secrets, app=app)
    await client.close()
