"""Drives the installed client packages with lines of JSON, and serves keys to them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.client_packages import python_command
from tests.support.environment import ROOT, need
from tests.support.http_site import serving

FOLDER = ROOT / "tests/clients/backend"
LINE_MAX = 1 << 22


class Driver:
    """A process with one package.

    kind: the class of its verifier.
    """

    def __init__(self, kind: str, command: list[str]) -> None:
        self._kind = kind
        self._command = command

    async def start(self) -> None:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, limit=LINE_MAX
        )

    async def stop(self) -> None:
        self._process.terminate()
        await self._process.communicate()

    async def send(self, **command: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        async with asyncio.timeout(60):
            return json.loads(await self._process.stdout.readline())

    async def make_verifier(self, **options: object) -> None:
        await self.send(make=self._kind, **options)

    async def verify(self, *tokens: object, now: float) -> list[dict[str, Any]]:
        """Verify the tokens concurrently."""
        answers: list[dict[str, Any]] = await self.send(do="verify", tokens=tokens, now=now)
        return answers


@asynccontextmanager
async def running(kind: str, folder: Path) -> AsyncIterator[Driver]:
    """Run the driver of the package that is installed in `folder`."""
    if kind == "Node":
        script = folder / "driver.mjs"
        if not script.exists():
            script.write_text((FOLDER / "driver.mjs").read_text())
        command = [need("node"), str(script)]
    else:
        command = python_command(folder, str(FOLDER / "driver.py"))
    driver = Driver(kind, command)
    await driver.start()
    try:
        yield driver
    finally:
        await driver.stop()


class KeyServer:
    """Serves the keys of a broker.

    url: of the keys. body: of each answer, by default the `keys`. is_down: whether it answers 503.
    requests: how many it got.
    """

    def __init__(self, *keys: Mapping[str, str]) -> None:
        self.keys = list(keys)
        self.url = ""
        self.body: bytes | None = None
        self.is_down = False
        self.requests = 0

    async def answer(self, _: web.Request) -> web.Response:
        self.requests += 1
        if self.is_down:
            return web.Response(status=503)
        return web.Response(body=self.body or json.dumps({"keys": self.keys}).encode())

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        application = web.Application()
        application.router.add_get("/.well-known/jwks.json", self.answer)
        async with serving(application) as port:
            self.url = f"http://127.0.0.1:{port}/.well-known/jwks.json"
            yield f"http://127.0.0.1:{port}"
