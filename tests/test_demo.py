"""`scan-login demo`, which `make demo` runs: three applications, one Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp

from broker.demo import own_address
from tests.conftest import free_port
from tests.test_mp_stub import phone


class Demo(NamedTuple):
    process: asyncio.subprocess.Process
    ports: dict[str, str]

    async def line(self, text: str) -> str:
        """The next line that has `text` in it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            while True:
                line = (await self.process.stdout.readline()).decode()
                assert line, f"the demo ended before it said {text!r}"
                if text in line:
                    return line


@asynccontextmanager
async def demo(**ports: str) -> AsyncIterator[Demo]:
    chosen = {name: str(free_port()) for name in ("PORT", "SITE_PORT", "PHONE_PORT")} | ports
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "broker",
        "demo",
        env={**os.environ, **chosen},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Demo(process, chosen)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_one_command_serves_broker_site_and_phone_and_one_ctrl_c_ends_them() -> None:
    async with demo() as running:
        for name, port in [
            ("Example site", "SITE_PORT"),
            ("Phone page", "PHONE_PORT"),
            ("Broker", "PORT"),
        ]:
            assert running.ports[port] in await running.line(name)
        async with aiohttp.ClientSession() as http:
            for port in running.ports.values():
                async with http.get(f"http://127.0.0.1:{port}/") as response:
                    assert response.status == 200

        running.process.send_signal(signal.SIGINT)
        _, errors = await running.process.communicate()

        assert running.process.returncode == 0
        assert errors == b""


async def test_pages_of_the_origins_that_are_named_may_use_the_demo_too() -> None:
    async with demo(SCAN_LOGIN_ORIGINS="http://127.0.0.1:1") as running:
        await running.line("Broker")
        url = f"http://127.0.0.1:{running.ports['PORT']}/socket.io/?EIO=4&transport=polling"
        site = f"http://127.0.0.1:{running.ports['SITE_PORT']}"
        async with aiohttp.ClientSession() as http:
            for origin, status in [("http://127.0.0.1:1", 200), (site, 200), ("http://x", 400)]:
                async with http.get(url, headers={"Origin": origin}) as response:
                    assert (origin, response.status) == (origin, status)


async def test_the_code_in_the_terminal_logs_the_terminal_in() -> None:
    async with demo() as running:
        link = (await running.line("log this terminal in")).split()[-1]
        broker = f"http://127.0.0.1:{running.ports['PORT']}"

        assert (await phone("confirm", link, "--as", "bob", broker=broker)).code == 0

        assert "logged in as pretend:bob" in await running.line("This terminal:")


async def test_a_taken_port_is_said_to_be_taken_and_how_to_choose_another() -> None:
    async with demo() as first:
        await first.line("Broker")
        for name in first.ports:
            async with demo(**{name: first.ports[name]}) as second:
                _, errors = await second.process.communicate()
                assert second.process.returncode == 1
                assert f"{name}=" in errors.decode()
                assert f"port {first.ports[name]} on 127.0.0.1 is taken" in errors.decode()


def test_the_machines_own_address_is_an_address() -> None:
    assert own_address().count(".") == 3
