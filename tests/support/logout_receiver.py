"""An app's endpoint for back-channel logouts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web

from broker.infrastructure.runtime.server import Site, serve_sites


class LogoutReceiver:
    """Records logout tokens, and answers with `statuses` in order; then with 200.

    url: of the endpoint.
    """

    def __init__(self) -> None:
        self.url = ""
        self.tokens: list[str] = []
        self.statuses: list[int] = []
        self.location = ""

    async def receive(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.tokens.append(str(form["logout_token"]))
        status = self.statuses.pop(0) if self.statuses else 200
        headers = {"Location": self.location} if status == 307 else None
        return web.Response(status=status, headers=headers)

    def claims(self) -> list[dict[str, Any]]:
        return [jwt.decode(one, options={"verify_signature": False}) for one in self.tokens]


@asynccontextmanager
async def logout_receiver() -> AsyncIterator[LogoutReceiver]:
    receiver, application = LogoutReceiver(), web.Application()
    application.router.add_post("/backchannel", receiver.receive)
    async with serve_sites([Site("app", application, "127.0.0.1", 0, "")]) as urls:
        receiver.url = f"{urls['app']}/backchannel"
        yield receiver
