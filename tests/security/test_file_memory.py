"""Memory of a broker while it takes as many uploads as it may."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from broker.files.limits import UPLOADS_MAX
from tests.support.clients import PhoneClient
from tests.support.commands import serving
from tests.support.environment import free_port
from tests.support.files import PNG, form, part, session_headers, upload
from tests.support.waiting import eventually

FILE_BYTES = 10_000_000

CHUNK = b"\0" * 65_536

LIMIT_BYTES = 200_000_000


def resident_bytes(pid: int) -> int:
    """Return the largest resident set that the process has had."""
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) * 1024


async def large_file(sent: asyncio.Barrier) -> AsyncIterator[bytes]:
    """Yield a body that ends when every upload has sent its file."""
    yield part("file", PNG, "a.png")[:-2]
    for _ in range(FILE_BYTES // len(CHUNK)):
        yield CHUNK
    await sent.wait()
    yield b"\r\n" + form()


async def send_all(url: str) -> list[int]:
    sent = asyncio.Barrier(UPLOADS_MAX)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(url))
        phones = [
            await stack.enter_async_context(PhoneClient(url, f"person-{n}"))
            for n in range(UPLOADS_MAX)
        ]
        answers = await asyncio.gather(
            *(upload(http, session_headers(phone), large_file(sent)) for phone in phones)
        )
    return [answer.status for answer in answers]


async def test_sixteen_uploads_need_little_memory(tmp_path: Path) -> None:
    port = free_port()
    variables = {
        "SCAN_LOGIN_PORT": str(port),
        "SCAN_LOGIN_FILES_URL": (tmp_path / "files").as_uri(),
    }
    with serving(tmp_path, **variables) as (process, _):
        url = f"http://127.0.0.1:{port}"

        async def is_ready() -> bool:
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"{url}/health/ready") as response,
            ):
                return response.status == 200

        await eventually(is_ready)
        before = resident_bytes(process.pid)

        statuses = await send_all(url)

        assert statuses == [201] * UPLOADS_MAX
        assert resident_bytes(process.pid) - before < LIMIT_BYTES
