"""Upload, download and deletion of files, by phones and by apps' own servers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from tests.support.app_admin import TOKEN
from tests.support.builders import Clock, RunningBroker, StartBroker
from tests.support.clients import Answer, PhoneClient
from tests.support.files import (
    PNG,
    download,
    file_form,
    form,
    part,
    session_headers,
    stored_files,
    upload,
)
from tests.support.servers.s3 import S3Server
from tests.support.session_server import basic, secret_of


class Setup(NamedTuple):
    """alice, bob: people of the app `red`."""

    broker: RunningBroker
    http: aiohttp.ClientSession
    folder: Path
    alice: dict[str, str]
    bob: dict[str, str]
    server: dict[str, str]

    async def get(self, path: str, headers: dict[str, str]) -> Answer:
        async with self.http.get(path, headers=headers) as response:
            return Answer(response.status, await response.json(), response.headers)

    async def delete(self, file_id: str, headers: dict[str, str]) -> int:
        async with self.http.delete(f"/files/{file_id}", headers=headers) as response:
            return response.status


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def setup(start_broker: StartBroker, tmp_path: Path, clock: Clock) -> AsyncIterator[Setup]:
    folder = tmp_path / "files"
    broker = await start_broker(
        clock=clock,
        admin_token=TOKEN,
        files_url=folder.as_uri(),
        files_max_bytes=1_000,
        files_quota_bytes=2_000,
    )
    server = {"Authorization": basic("red", await secret_of(broker, "red"))}
    async with (
        aiohttp.ClientSession(broker.url) as http,
        PhoneClient(broker.url, app="red") as alice,
        PhoneClient(broker.url, "bob", app="red") as bob,
    ):
        yield Setup(broker, http, folder, session_headers(alice), session_headers(bob), server)


@pytest.mark.parametrize("fields_last", [False, True])
async def test_uploaded_file_is_downloaded_by_its_url(setup: Setup, fields_last: bool) -> None:
    digest = hashlib.sha256(PNG).hexdigest()
    body = file_form(fields_last=fields_last, purpose="avatar", sha256=digest, other="ignored")

    uploaded = await upload(setup.http, setup.alice, body)
    status, content, headers = await download(setup.http, uploaded.body["url"])

    assert uploaded.status == 201
    assert uploaded.body["media_type"] == "image/png"
    assert (uploaded.body["size"], uploaded.body["sha256"]) == (len(PNG), digest)
    assert uploaded.body["expires_in"] == 300
    assert (status, content) == (200, PNG)
    assert headers["Content-Type"] == "image/png"
    assert headers["Content-Disposition"] == "attachment; filename*=UTF-8''a.png"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert headers["Cache-Control"] == "private"
    assert headers["ETag"] == f'"{digest}"'


async def test_owner_downloads_with_the_session(setup: Setup) -> None:
    file = (await upload(setup.http, setup.alice)).body

    status, content, _ = await download(setup.http, f"/files/{file['file_id']}", **setup.alice)

    assert (status, content) == (200, PNG)


async def test_meta_describes_the_file(setup: Setup) -> None:
    body = file_form(filename="照片.png", purpose="avatar")
    file = (await upload(setup.http, setup.alice, body)).body

    meta = await setup.get(f"/files/{file['file_id']}/meta", setup.server)

    assert meta.body["owner"]["openid"] == "alice"
    assert (meta.body["name"], meta.body["purpose"]) == ("照片.png", "avatar")
    assert (await download(setup.http, meta.body["url"]))[0] == 200


async def test_deleted_file_is_unknown_and_not_stored(setup: Setup) -> None:
    file = (await upload(setup.http, setup.alice)).body

    assert await setup.delete(file["file_id"], setup.alice) == 204
    assert await setup.delete(file["file_id"], setup.alice) == 404
    assert (await download(setup.http, file["url"]))[0] == 404
    assert stored_files(setup.folder) == []


async def test_server_lists_files_of_one_person(setup: Setup) -> None:
    file = (await upload(setup.http, setup.alice)).body
    await upload(setup.http, setup.bob)

    listed = await setup.get("/files?openid=alice", setup.server)
    all_files = await setup.get("/files", setup.server)

    assert [one["file_id"] for one in listed.body["files"]] == [file["file_id"]]
    assert len(all_files.body["files"]) == 2
    assert "next" not in listed.body


async def test_server_uploads_for_a_person(setup: Setup) -> None:
    file = (await upload(setup.http, setup.server, file_form(openid="alice"))).body

    status, _, _ = await download(setup.http, f"/files/{file['file_id']}", **setup.alice)
    others, _, _ = await download(setup.http, f"/files/{file['file_id']}", **setup.bob)

    assert (status, others) == (200, 404)


async def test_openid_after_the_file_is_refused(setup: Setup) -> None:
    body = file_form(fields_last=True, openid="alice")

    refused = await upload(setup.http, setup.server, body)

    assert (refused.status, refused.body["error"]) == (400, "invalid_request")


async def test_file_of_another_person_is_unknown(setup: Setup) -> None:
    path = f"/files/{(await upload(setup.http, setup.alice)).body['file_id']}"

    assert (await download(setup.http, path, **setup.bob))[0] == 404
    assert (await setup.get(f"{path}/meta", setup.bob)).body["error"] == "unknown_file"
    assert await setup.delete(path.rpartition("/")[2], setup.bob) == 404


async def test_file_of_another_app_is_unknown(setup: Setup) -> None:
    path = f"/files/{(await upload(setup.http, setup.alice)).body['file_id']}"
    blue = {"Authorization": basic("blue", await secret_of(setup.broker, "blue"))}

    assert (await setup.get(f"{path}/meta", blue)).body["error"] == "unknown_file"
    async with PhoneClient(setup.broker.url, app="blue") as phone:
        assert (await download(setup.http, path, **session_headers(phone)))[0] == 404
    assert (await setup.get("/files", blue)).body == {"files": []}


@pytest.mark.parametrize("name", ["t", "e"])
async def test_altered_url_is_refused(setup: Setup, name: str) -> None:
    file = (await upload(setup.http, setup.alice)).body
    [value] = parse_qs(urlsplit(file["url"]).query)[name]
    last = "1" if value[-1] != "1" else "2"

    altered = file["url"].replace(value, value[:-1] + last)

    assert (await download(setup.http, altered))[0] == 404


async def test_url_of_another_file_is_refused(setup: Setup) -> None:
    first = (await upload(setup.http, setup.alice)).body
    second = (await upload(setup.http, setup.bob)).body

    altered = first["url"].replace(first["file_id"], second["file_id"])

    assert (await download(setup.http, altered))[0] == 404


async def test_url_expires(setup: Setup, clock: Clock) -> None:
    url = (await upload(setup.http, setup.alice)).body["url"]

    clock.time += 301

    assert (await download(setup.http, url))[0] == 404


async def test_file_expires(setup: Setup, clock: Clock) -> None:
    file = (await upload(setup.http, setup.server)).body

    clock.time += 30 * 86_400 + 1

    assert (await setup.get(f"/files/{file['file_id']}/meta", setup.server)).status == 404


async def test_download_without_credentials_is_refused(setup: Setup) -> None:
    file = (await upload(setup.http, setup.alice)).body

    assert (await download(setup.http, f"/files/{file['file_id']}"))[0] == 401


@pytest.mark.parametrize(
    ("header", "status", "content", "content_range"),
    [
        ("bytes=0-9", 206, PNG[:10], "bytes 0-9/108"),
        ("bytes=100-", 206, PNG[100:], "bytes 100-107/108"),
        ("bytes=-8", 206, PNG[-8:], "bytes 100-107/108"),
        ("bytes=4-7", 206, PNG[4:8], "bytes 4-7/108"),
        ("bytes=4-9999", 206, PNG[4:], "bytes 4-107/108"),
        ("bytes=0-1,4-5", 200, PNG, None),
        ("lines=0-1", 200, PNG, None),
        ("bytes=9-4", 200, PNG, None),
    ],
)
async def test_range_returns_the_requested_part(
    setup: Setup, header: str, status: int, content: bytes, content_range: str | None
) -> None:
    url = (await upload(setup.http, setup.alice)).body["url"]

    answered, received, headers = await download(setup.http, url, Range=header)

    assert (answered, received) == (status, content)
    assert headers.get("Content-Range") == content_range


@pytest.mark.parametrize("header", ["bytes=108-", "bytes=-0"])
async def test_range_after_the_end_is_refused(setup: Setup, header: str) -> None:
    url = (await upload(setup.http, setup.alice)).body["url"]

    assert (await download(setup.http, url, Range=header))[0] == 416


async def test_unchanged_file_is_not_sent_again(setup: Setup) -> None:
    file = (await upload(setup.http, setup.alice)).body
    tag = {"If-None-Match": f'"{file["sha256"]}"'}

    status, content, _ = await download(setup.http, file["url"], **tag)

    assert (status, content) == (304, b"")


async def test_head_sends_no_content(setup: Setup) -> None:
    """A client reads bytes after the headers as the next response."""
    url = (await upload(setup.http, setup.alice)).body["url"]
    host, _, port = setup.broker.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, port)

    target = url.removeprefix(setup.broker.url)
    writer.write(f"HEAD {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    headers, _, content = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()

    assert f"\r\nContent-Length: {len(PNG)}\r\n".encode() in headers
    assert content == b""


async def test_files_over_the_quota_are_refused(setup: Setup) -> None:
    body = file_form(PNG + b"x" * 800)
    assert (await upload(setup.http, setup.alice, body)).status == 201
    assert (await upload(setup.http, setup.alice, body)).status == 201

    refused = await upload(setup.http, setup.alice, body)

    assert (refused.status, refused.body["error"]) == (403, "quota_exceeded")
    assert (await upload(setup.http, setup.bob, body)).status == 201


async def test_refused_upload_releases_its_quota(setup: Setup) -> None:
    for _ in range(4):
        refused = await upload(setup.http, setup.alice, file_form(b"x" * 900))
        assert refused.body["error"] == "unsupported_media_type"

    assert (await upload(setup.http, setup.alice)).status == 201


async def test_app_limits_types_and_size(setup: Setup) -> None:
    operator = {"Authorization": f"Bearer {TOKEN}"}
    fields = {"files_types": ["gif"], "files_max": 50}
    async with (
        aiohttp.ClientSession(setup.broker.admin, headers=operator) as admin,
        admin.patch("/apps/red", json=fields) as response,
    ):
        assert response.status == 200

    refused = await upload(setup.http, setup.alice, file_form(b"\x89PNG\r\n\x1a\n" + b"x" * 20))
    too_large = await upload(setup.http, setup.alice, file_form(b"GIF89a" + b"x" * 60))
    kept = await upload(setup.http, setup.alice, file_form(b"GIF89a" + b"x" * 20))

    assert (refused.status, too_large.status, kept.status) == (415, 413, 201)


async def test_admin_token_needs_the_app(setup: Setup) -> None:
    operator = {"Authorization": f"Bearer {TOKEN}"}

    assert (await upload(setup.http, operator)).status == 400
    assert (await upload(setup.http, operator, app="red")).status == 201


async def test_ended_session_cannot_upload(setup: Setup) -> None:
    async with PhoneClient(setup.broker.url, app="red") as phone:
        await phone.delete("session")

        refused = await upload(setup.http, session_headers(phone))

    assert (refused.status, refused.body["error"]) == (401, "invalid_session")


async def test_session_that_ends_during_an_upload_keeps_no_file(setup: Setup) -> None:
    async with PhoneClient(setup.broker.url, app="red") as phone:

        async def body() -> AsyncIterator[bytes]:
            yield part("file", PNG, "a.png")
            await phone.delete("session")
            yield form()

        refused = await upload(setup.http, session_headers(phone), body())

    assert refused.body["error"] == "invalid_session"
    assert stored_files(setup.folder) == []
    assert (await setup.get("/files", setup.server)).body == {"files": []}


async def test_direct_download_is_redirected_to_the_store(
    start_broker: StartBroker, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    broker = await start_broker(
        files_url=f"s3://pictures/{tmp_path.name}", files_endpoint=s3.url, files_direct=True
    )
    async with aiohttp.ClientSession(broker.url) as http, PhoneClient(broker.url) as phone:
        url = (await upload(http, session_headers(phone))).body["url"]
        status, _, headers = await download(http, url)
        _, content, stored = await download(http, headers["Location"])

    assert status == 302
    assert headers["Cache-Control"] == "no-store"
    assert content == PNG
    assert stored["Content-Disposition"] == "attachment; filename*=UTF-8''a.png"


async def test_broker_without_a_store_has_no_files(broker: RunningBroker) -> None:
    async with aiohttp.ClientSession(broker.url) as http, http.get("/files") as response:
        assert response.status == 404
