"""Runs `scan-login demo` and the phone page."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp

from tests.support.environment import ROOT, free_port


class Demo(NamedTuple):
    process: asyncio.subprocess.Process
    ports: dict[str, str]

    async def line(self, text: str) -> str:
        """Return the next line that contains `text`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(90):
            while True:
                line = (await self.process.stdout.readline()).decode()
                assert line, f"the demo ended before it printed {text!r}"
                if text in line:
                    return line


@asynccontextmanager
async def demo(*options: str, **ports: str) -> AsyncIterator[Demo]:
    names = ("PORT", "SITE_PORT", "PHONE_PORT", "WECHAT_PORT", "GATEWAY_PORT", "ADMIN_PORT")
    ports_used = {name: str(free_port()) for name in names} | ports
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "broker",
        "demo",
        *options,
        env={**os.environ, **ports_used},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Demo(process, ports_used)
    finally:
        if process.returncode is None:
            process.terminate()  # it deletes its folder
        await process.communicate()


async def run_curl(command: str) -> None:
    """Send the request of a curl command that the demo prints."""
    _, _, method, url, *rest = shlex.split(command)
    base, _, names = url.partition("{")
    body = rest[1] if rest else None
    async with aiohttp.ClientSession() as http:
        for name in names.rstrip("}").split(","):
            async with http.request(method, base + name, data=body) as answer:
                assert answer.status == 200


class CommandOutput(NamedTuple):
    code: int
    output: str
    errors: str


async def phone(*arguments: str, broker: str) -> CommandOutput:
    """Run `python -m mp_stub …`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mp_stub",
        *arguments,
        "--broker",
        broker,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return CommandOutput(process.returncode or 0, output.decode(), errors.decode())
