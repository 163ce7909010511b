"""Hostile uploads and downloads of files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from broker.blobs.files import ObjectFileStore
from broker.errors import InvalidRequest
from broker.files.limits import READS_SHARE, UPLOADS_MAX
from broker.files.multipart import MultipartUpload
from broker.infrastructure.runtime.server import Site as Server
from broker.infrastructure.runtime.server import serve_sites
from broker.records.files import SqlFileRecords
from tests.support.app_admin import TOKEN
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import Answer, PhoneClient
from tests.support.files import (
    HTML,
    PNG,
    download,
    file_form,
    form,
    part,
    session_headers,
    stored_files,
    upload,
)
from tests.support.session_server import basic, secret_of
from tests.support.waiting import eventually


class Site(NamedTuple):
    broker: RunningBroker
    http: aiohttp.ClientSession
    folder: Path
    phone: dict[str, str]

    async def upload(self, body: bytes | AsyncIterator[bytes]) -> Answer:
        return await upload(self.http, self.phone, body)


@pytest.fixture
async def site(
    start_broker: StartBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Site]:
    monkeypatch.setattr("broker.files.limits.READ_TIMEOUT", 3_600.0)
    folder = tmp_path / "files"
    broker = await start_broker(
        admin_token=TOKEN, files_url=folder.as_uri(), files_max_bytes=100_000
    )
    async with aiohttp.ClientSession(broker.url) as http, PhoneClient(broker.url) as phone:
        yield Site(broker, http, folder, session_headers(phone))


MALFORMED = {
    "no file": form(part("purpose", b"avatar")),
    "two files": form(part("file", PNG, "a.png"), part("file", PNG, "b.png")),
    "file without a name": form(part("file", PNG)),
    "no end": file_form()[:-8],
    "half a file": file_form()[:120],
    "empty": b"",
    "not multipart": b"\0" * 500,
    "repeated field": form(part("purpose", b"a"), part("purpose", b"b"), part("file", PNG, "a")),
    "long field": form(part("purpose", b"x" * 5_000), part("file", PNG, "a")),
    "field not UTF-8": form(part("purpose", b"\xff"), part("file", PNG, "a")),
    "long preamble": b"\n" * 100_000 + file_form(),
    "many fields": form(*[part("x", b"")] * 100, part("file", PNG, "a")),
    "control character": form(part("openid", b"a\0b"), part("file", PNG, "a")),
    "wrong hash": file_form(sha256="0" * 64),
    "malformed hash": file_form(sha256="0"),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_upload_is_refused(site: Site, body: bytes) -> None:
    refused = await site.upload(body)

    assert (refused.status, refused.body["error"]) == (400, "invalid_request")
    assert stored_files(site.folder) == []


@pytest.mark.parametrize(
    "content", [HTML, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"", b"\x89PNG", b"GIF"]
)
async def test_content_of_another_type_is_refused(site: Site, content: bytes) -> None:
    refused = await site.upload(file_form(content, "picture.png"))

    assert (refused.status, refused.body["error"]) == (415, "unsupported_media_type")
    assert stored_files(site.folder) == []


async def test_polyglot_is_served_as_an_attachment(site: Site) -> None:
    file = (await site.upload(file_form(PNG + HTML, "page.html"))).body

    _, _, headers = await download(site.http, file["url"])

    assert headers["Content-Type"] == "image/png"
    assert headers["Content-Disposition"].startswith("attachment")
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("../../etc/passwd.png", "passwd.png"),
        (r"..\\..\\boot.png", "boot.png"),
        ("a%0D%0ASet-Cookie: x=1.png", "a%250D%250ASet-Cookie%3A%20x%3D1.png"),
        ("照片.png", "%E7%85%A7%E7%89%87.png"),
        ("\u202egnp.png", "gnp.png"),
        ("x" * 300, "x" * 255),
    ],
)
async def test_file_name_is_only_a_header(site: Site, name: str, sent: str) -> None:
    file = (await site.upload(file_form(filename=name))).body

    _, _, headers = await download(site.http, file["url"])

    assert headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{sent}"
    assert "Set-Cookie" not in headers
    [stored] = stored_files(site.folder)
    assert stored.relative_to(site.folder).parts[0] == "default"
    assert len(stored.name) == 32


async def test_large_file_is_refused_before_its_end(site: Site) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield part("file", PNG, "a.png")[:-2]
        while True:
            yield b"x" * 65_536

    refused = await site.upload(endless())

    assert (refused.status, refused.body["error"]) == (413, "too_large")
    assert stored_files(site.folder) == []


async def test_announced_size_is_refused_at_once(site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", aiohttp_port(site))
    lines = [
        "POST /files HTTP/1.1",
        "Host: broker",
        "Content-Length: 10000000000",
        "Content-Type: multipart/form-data; boundary=b",
        *(f"{name}: {value}" for name, value in site.phone.items()),
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())

    status = await reader.readline()

    assert b" 413 " in status
    writer.close()


def aiohttp_port(site: Site) -> int:
    return int(site.broker.url.rpartition(":")[2])


async def test_upload_in_chunks_of_one_byte_is_kept(site: Site) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        for byte in file_form():
            yield bytes([byte])

    file = (await site.upload(slowly())).body

    assert (await download(site.http, file["url"]))[1] == PNG


async def test_broken_connection_leaves_no_file_and_no_reservation(site: Site) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield part("file", PNG * 100, "a.png")[:5_000]
        raise ConnectionResetError

    with pytest.raises(aiohttp.ClientError):
        await site.upload(broken())

    async def is_kept() -> bool:
        return (await site.upload(file_form(PNG + b"x" * 90_000))).status == 201

    await eventually(is_kept)
    assert len(stored_files(site.folder)) == 1


class Paused(NamedTuple):
    """An upload that waits in the middle. resume: lets it end."""

    task: asyncio.Task[Answer]
    resume: asyncio.Event


async def pause_upload(http: aiohttp.ClientSession, headers: dict[str, str]) -> Paused:
    begun, resume = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield part("file", PNG, "a.png")
        begun.set()
        await resume.wait()
        yield form()

    task = asyncio.create_task(upload(http, headers, body()))
    await begun.wait()
    return Paused(task, resume)


async def finish(uploads: list[Paused]) -> list[int]:
    for one in uploads:
        one.resume.set()
    return [answer.status for answer in await asyncio.gather(*(one.task for one in uploads))]


async def test_second_upload_of_a_session_is_refused(site: Site) -> None:
    first = await pause_upload(site.http, site.phone)

    async def is_refused() -> bool:
        return (await site.upload(file_form())).body.get("error") == "rate_limited"

    await eventually(is_refused)
    assert await finish([first]) == [201]
    assert (await site.upload(file_form())).status == 201


async def test_uploads_over_the_total_are_unavailable(site: Site) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            aiohttp.ClientSession(site.broker.url, connector=connector)
        )
        phones = [
            await stack.enter_async_context(PhoneClient(site.broker.url, f"person-{n}"))
            for n in range(UPLOADS_MAX)
        ]
        paused = [await pause_upload(http, session_headers(phone)) for phone in phones]

        async def is_refused() -> bool:
            error = (await site.upload(file_form())).body.get("error")
            return error == "temporarily_unavailable"

        await eventually(is_refused)
        assert await finish(paused) == [201] * UPLOADS_MAX


async def test_malformed_uploads_count_as_uploads(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = await start_broker(files_url=(tmp_path / "f").as_uri(), files_per_hour=1)
    async with aiohttp.ClientSession(broker.url) as http, PhoneClient(broker.url) as phone:
        answers = [await upload(http, session_headers(phone), b"") for _ in range(2)]

    assert [answer.status for answer in answers] == [400, 429]


async def test_uploads_of_an_hour_are_limited(start_broker: StartBroker, tmp_path: Path) -> None:
    broker = await start_broker(files_url=(tmp_path / "f").as_uri(), files_per_hour=2)
    async with aiohttp.ClientSession(broker.url) as http, PhoneClient(broker.url) as phone:
        answers = [await upload(http, session_headers(phone)) for _ in range(3)]

    assert [answer.status for answer in answers] == [201, 201, 429]
    assert answers[-1].body["retry_after"] > 3_000


async def test_simultaneous_uploads_cannot_exceed_the_quota(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    """Two instances share the records."""
    values = {
        "files_url": (tmp_path / "f").as_uri(),
        "files_max_bytes": 1_000,
        "files_quota_bytes": 1_500,
        "admin_token": TOKEN,
    }
    brokers = [await start_broker(**values) for _ in range(2)]
    secret = await secret_of(brokers[0], "red")
    server = {"Authorization": basic("red", secret)}
    body = file_form(PNG + b"x" * 700, openid="alice")

    async def send(broker: RunningBroker) -> int:
        async with aiohttp.ClientSession(broker.url) as http:

            async def is_known() -> bool:
                async with http.get("/files", headers=server) as response:
                    return response.status == 200

            await eventually(is_known)
            return (await upload(http, server, body)).status

    statuses = await asyncio.gather(*(send(broker) for broker in brokers))

    assert sorted(statuses) == [201, 403]


@pytest.mark.parametrize("limit", ["progress_timeout", "upload_timeout"])
async def test_upload_that_stalls_is_refused(limit: str) -> None:
    async def receive(http: web.Request) -> web.Response:
        reading = MultipartUpload(http, **{limit: 0.2})
        await reading.open()
        with pytest.raises(InvalidRequest, match="in time"):
            async for _ in reading.chunks():
                pass
        return web.json_response({"error": "late"})

    resume = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield part("file", PNG, "a.png")[:-2]
        await resume.wait()

    application = web.Application()
    application.router.add_post("/files", receive)
    async with (
        serve_sites([Server("files", application, "127.0.0.1", 0, "PORT")]) as addresses,
        aiohttp.ClientSession(addresses["files"]) as http,
    ):
        answer = await upload(http, {}, stalling())
        resume.set()

    assert answer.body == {"error": "late"}


async def test_page_of_an_unknown_site_cannot_upload(site: Site) -> None:
    refused = await upload(site.http, {**site.phone, "Origin": "https://evil.example"})

    assert (refused.status, refused.body["error"]) == (401, "invalid_client")


class Gate:
    """Holds reads while it is closed, and counts those that wait."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.waiting = self.waiting_max = 0

    async def pass_through(self) -> None:
        self.waiting += 1
        self.waiting_max = max(self.waiting, self.waiting_max)
        await self.is_open.wait()
        self.waiting -= 1


@pytest.fixture
def database_gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate, get = Gate(), SqlFileRecords.get

    async def wait_and_get(*args: Any, **fields: Any) -> object:
        await gate.pass_through()
        return await get(*args, **fields)

    monkeypatch.setattr(SqlFileRecords, "get", wait_and_get)
    return gate


@pytest.fixture
def store_gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate, read = Gate(), ObjectFileStore.read

    async def wait_and_read(*args: Any) -> AsyncIterator[bytes]:
        await gate.pass_through()
        async for chunk in read(*args):
            yield chunk

    monkeypatch.setattr(ObjectFileStore, "read", wait_and_read)
    return gate


async def statuses_of_flood(site: Site, gate: Gate, path: str, **headers: str) -> list[int]:
    """Request `path` many times, and then the file once as another caller."""
    file_id = urlsplit(path).path.split("/")[2]
    gate.is_open.clear()
    async with PhoneClient(site.broker.url) as phone, asyncio.TaskGroup() as group:
        flood = [
            group.create_task(download(site.http, path, **headers)) for _ in range(5 * READS_SHARE)
        ]
        await eventually(lambda: gate.waiting == READS_SHARE)
        other = download(site.http, f"/files/{file_id}", **session_headers(phone))
        tasks = [*flood, group.create_task(other)]
        await eventually(lambda: gate.waiting == READS_SHARE + 1)
        gate.is_open.set()
    return [task.result()[0] for task in tasks]


@pytest.mark.parametrize("name", ["database_gate", "store_gate"])
async def test_downloads_of_one_url_have_a_share(
    site: Site, request: pytest.FixtureRequest, name: str
) -> None:
    gate: Gate = request.getfixturevalue(name)
    url = (await site.upload(file_form())).body["url"].removeprefix(site.broker.url)

    statuses = await statuses_of_flood(site, gate, url)

    assert set(statuses) == {200}
    assert gate.waiting_max == READS_SHARE + 1


async def test_descriptions_for_one_person_have_a_share(site: Site, database_gate: Gate) -> None:
    async with PhoneClient(site.broker.url, "bob") as bob:
        path = f"/files/{(await site.upload(file_form())).body['file_id']}/meta"

        statuses = await statuses_of_flood(site, database_gate, path, **session_headers(bob))

    assert set(statuses) == {404, 200}
    assert database_gate.waiting_max == READS_SHARE + 1
