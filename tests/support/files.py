"""Uploads as mini programs send them, and a stub of ClamAV's daemon."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.support.builders import StartBroker
from tests.support.clients import Answer, PhoneClient

BOUNDARY = "----canary-boundary"

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100

HTML = b"<!doctype html><script>alert(1)</script>"

EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
"""The test file that every virus scanner refuses."""


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    named = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def file_form(
    content: bytes = PNG, filename: str = "a.png", *, fields_last: bool = False, **fields: str
) -> bytes:
    """Return a body with one file. fields_last: as an old client sends them."""
    texts = [part(name, text.encode()) for name, text in fields.items()]
    file = part("file", content, filename)
    return form(file, *texts) if fields_last else form(*texts, file)


HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def session_headers(phone: PhoneClient) -> dict[str, str]:
    """Return Wafer's headers of a session."""
    return {"X-WX-Id": phone.session["id"], "X-WX-Skey": phone.session["skey"]}


async def upload(
    http: aiohttp.ClientSession,
    headers: Mapping[str, str],
    body: bytes | AsyncIterator[bytes] | None = None,
    **params: str,
) -> Answer:
    data = file_form() if body is None else body
    sent = {**HEADERS, **headers}
    async with http.post("/files", data=data, headers=sent, params=params) as response:
        return Answer(response.status, await response.json(), response.headers)


async def upload_once(
    start: StartBroker, folder: Path, body: bytes | AsyncIterator[bytes], **settings: object
) -> Answer:
    """Start a broker, and upload a file as a phone."""
    broker = await start(files_url=(folder / "files").as_uri(), **settings)
    async with aiohttp.ClientSession(broker.url) as http, PhoneClient(broker.url) as phone:
        return await upload(http, session_headers(phone), body)


async def download(
    http: aiohttp.ClientSession, url: str, **headers: str
) -> tuple[int, bytes, Mapping[str, str]]:
    async with http.get(url, headers=headers, allow_redirects=False) as response:
        return response.status, await response.read(), response.headers


Verdict = Callable[[bytes], Awaitable[bytes | None]]
"""Returns the answer to a stream; None to close the connection."""


async def judge(content: bytes) -> bytes:
    """Answer as ClamAV does."""
    return b"stream: Eicar-Test-Signature FOUND" if EICAR in content else b"stream: OK"


@asynccontextmanager
async def running_clamd(path: Path, verdict: Verdict = judge) -> AsyncIterator[list[bytes]]:
    """Serve the command INSTREAM at a Unix socket, and yield the contents that it has got."""
    contents: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command = await reader.readuntil(b"\0")
        if command == b"zPING\0":
            writer.write(b"PONG\0")
            writer.close()
            return
        assert command == b"zINSTREAM\0"
        content = b""
        while size := struct.unpack("!I", await reader.readexactly(4))[0]:
            content += await reader.readexactly(size)
        contents.append(content)
        answer = await verdict(content)
        if answer is not None:
            writer.write(answer + b"\0")
        writer.close()

    async def serve_quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (EOFError, ConnectionError):
            writer.close()

    server = await asyncio.start_unix_server(serve_quietly, path)
    try:
        yield contents
    finally:
        server.close()


def stored_files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]
