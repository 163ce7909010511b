"""Broker processes whose output and storage are searched for secrets."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp

from tests.support.environment import ROOT, free_port
from tests.support.servers.redis import RedisServer


async def send_raw(url: str, request: bytes) -> None:
    """Send a malformed request, which aiohttp would log literally."""
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    assert b" 400 " in await reader.read()
    writer.close()


ARGUMENT = re.compile(rb'"((?:[^"\\]|\\.)*)"')
"""One argument of a command in the output of MONITOR."""

CHANNELS = re.compile(rb"S?PUBLISH|[SP]?(UN)?SUBSCRIBE", re.IGNORECASE)
"""Commands of channels."""


class RecordedCommand(NamedTuple):
    """A command that Redis received: its name and its arguments."""

    name: bytes
    arguments: bytes


class Monitor:
    """Records every command of a Redis, also those of scripts."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.commands: list[RecordedCommand] = []

    async def read(self) -> None:
        async for line in self._reader:
            words = ARGUMENT.findall(line)
            if words:
                self.commands.append(RecordedCommand(words[0], b" ".join(words[1:])))

    def all(self) -> str:
        return text(self.commands)

    def bus(self) -> str:
        return text(command for command in self.commands if CHANNELS.fullmatch(command.name))


def text(commands: Iterable[RecordedCommand]) -> str:
    return "\n".join((name + b" " + arguments).decode() for name, arguments in commands)


@asynccontextmanager
async def monitored(redis: RedisServer) -> AsyncIterator[Monitor]:
    reader, writer = await asyncio.open_connection("127.0.0.1", redis.port, limit=1 << 20)
    writer.write(b"MONITOR\r\n")
    assert await reader.readline() == b"+OK\r\n"
    monitor = Monitor(reader)
    task = asyncio.create_task(monitor.read())
    yield monitor
    task.cancel()
    await asyncio.wait([task])
    writer.close()


class Process(NamedTuple):
    """A broker process: its URL, its metrics URL and its log file."""

    url: str
    metrics_url: str
    log: Path


@asynccontextmanager
async def process(
    name: str, state_url: str, folder: Path, **extra_settings: str
) -> AsyncIterator[Process]:
    port, log = free_port(), folder / f"{name}.log"
    settings = {
        "PORT": "0",
        "ADMIN_PORT": str(port),
        "STATE_URL": state_url,
        "KEY_FILE": str(folder / "keys.json"),
        "SEAL_FILE": str(folder / "seal.json"),
        "RECORDS_URL": f"sqlite+aiosqlite:///{folder}/records.db",
        "INSTANCE": name,
        "LOG_LEVEL": "debug",
        "INTERVAL": "30",
        **extra_settings,
    }
    with log.open("wb") as stderr:
        broker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "broker", "serve"),
            cwd=ROOT,
            env={**os.environ, **{f"SCAN_LOGIN_{key}": value for key, value in settings.items()}},
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    assert broker.stdout is not None
    try:
        ready = (await broker.stdout.readline()).decode()
        yield Process(ready.split(" ready on ")[1].split()[0], f"http://127.0.0.1:{port}", log)
    finally:
        broker.terminate()
        await broker.wait()


def leaked(words: Iterable[str], output: str) -> list[str]:
    return [word for word in words if word in output]


async def fetch(http: aiohttp.ClientSession, url: str) -> str:
    async with http.get(url) as response:
        return await response.text()


def everything_in(node: RedisServer) -> str:
    with node.client() as client:
        entries = [
            (key, client.get(key)) for key in client.scan_iter() if client.type(key) == b"string"
        ]
    assert entries
    return str(entries)
