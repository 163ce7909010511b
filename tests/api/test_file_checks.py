"""The virus scanner and the webhook before a file is kept, and the deletion of expired files."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from broker.blobs.files import BUFFER_BYTES, ObjectFileStore
from broker.files.jobs import UNKNOWN_AGE, FileCleaner
from broker.files.model import StoredFile, new_file_id, owner_of
from broker.records.files import SqlFileRecords
from broker.state.memory.leader_leases import MemoryLeaderLeases
from tests.support.app_admin import TOKEN
from tests.support.builders import SHOP, Clock, StartBroker
from tests.support.clients import PhoneClient
from tests.support.environment import free_port
from tests.support.files import (
    EICAR,
    PNG,
    download,
    file_form,
    judge,
    running_clamd,
    session_headers,
    stored_files,
    upload,
    upload_once,
)
from tests.support.http_site import serving
from tests.support.records import connected
from tests.support.waiting import eventually


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "clamd"


async def test_scanner_gets_the_whole_file(
    start_broker: StartBroker, tmp_path: Path, socket: Path
) -> None:
    content = PNG + os.urandom(300_000)
    async with running_clamd(socket) as contents:
        answer = await upload_once(start_broker, tmp_path, file_form(content), clamd=socket)

    assert (answer.status, contents) == (201, [content])


async def test_infected_file_is_not_kept(
    start_broker: StartBroker, tmp_path: Path, socket: Path
) -> None:
    async with running_clamd(socket):
        answer = await upload_once(start_broker, tmp_path, file_form(PNG + EICAR), clamd=socket)

    assert (answer.status, answer.body["error"]) == (422, "infected")
    assert stored_files(tmp_path / "files") == []


async def test_missing_scanner_is_unavailable(
    start_broker: StartBroker, tmp_path: Path, socket: Path
) -> None:
    answer = await upload_once(start_broker, tmp_path, file_form(), clamd=socket)

    assert (answer.status, answer.body["error"]) == (503, "temporarily_unavailable")


@pytest.mark.parametrize(
    "verdict",
    [None, b"INSTREAM size limit exceeded. ERROR", b"x" * 5_000],
    ids=["lost", "limit", "long"],
)
async def test_scanner_without_verdict_is_unavailable(
    start_broker: StartBroker, tmp_path: Path, socket: Path, verdict: bytes | None
) -> None:
    async def answer_so(content: bytes) -> bytes | None:
        return verdict

    async with running_clamd(socket, answer_so):
        answer = await upload_once(start_broker, tmp_path, file_form(), clamd=socket)

    assert (answer.status, answer.body["error"]) == (503, "temporarily_unavailable")
    assert stored_files(tmp_path / "files") == []


async def test_slow_scanner_is_unavailable(
    start_broker: StartBroker, tmp_path: Path, socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.files.clamd.SCAN_TIMEOUT", 0.2)
    resume = asyncio.Event()

    async def wait(content: bytes) -> bytes:
        await resume.wait()
        return await judge(content)

    async with running_clamd(socket, wait):
        answer = await upload_once(start_broker, tmp_path, file_form(), clamd=socket)
        resume.set()

    assert answer.body["error"] == "temporarily_unavailable"


class OfferedSite(NamedTuple):
    """A site that decides about files. offers: the `data` of valid requests."""

    http: aiohttp.ClientSession
    phone: dict[str, str]
    folder: Path
    offers: list[dict[str, Any]]
    answers: list[web.Response]


@pytest.fixture
async def site(start_broker: StartBroker, tmp_path: Path) -> AsyncIterator[OfferedSite]:
    folder, offers, answers = tmp_path / "files", list[dict[str, Any]](), list[web.Response]()
    broker = await start_broker(files_url=folder.as_uri(), admin_token=TOKEN, webhooks_private=True)
    port = free_port()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(broker.admin, headers=headers) as admin:
        fields = {"id": "red", "name": "Red", "files_url": f"http://127.0.0.1:{port}/files"}
        async with admin.post("/apps", json=fields) as response:
            assert response.status == 201
        async with admin.post("/apps/red/rotate-webhook-secret") as response:
            secret = (await response.json())["webhook_secret"]

    async def hook(request: web.Request) -> web.Response:
        fields = Webhook(secret).verify(await request.read(), dict(request.headers))
        assert fields["type"] == "file.offered"
        offers.append(fields["data"])
        return answers.pop()

    application = web.Application()
    application.router.add_post("/files", hook)
    async with (
        serving(application, port),
        aiohttp.ClientSession(broker.url) as http,
        PhoneClient(broker.url, app="red") as phone,
    ):
        yield OfferedSite(http, session_headers(phone), folder, offers, answers)


async def test_site_keeps_an_offered_file(site: OfferedSite) -> None:
    site.answers.append(web.json_response({}))

    file = await upload(site.http, site.phone, file_form(purpose="avatar"))

    assert file.status == 201
    [offer] = site.offers
    assert offer == {
        "app": "red",
        "openid": "alice",
        "subject": "pretend:alice",
        "size": len(PNG),
        "media_type": "image/png",
        "purpose": "avatar",
        "sha256": file.body["sha256"],
    }


@pytest.mark.parametrize(
    ("status", "text", "answered", "error"),
    [
        (403, "{}", 403, "access_denied"),
        (403, "no JSON", 503, "temporarily_unavailable"),
        (204, "", 503, "temporarily_unavailable"),
        (500, "{}", 503, "temporarily_unavailable"),
        (302, "", 503, "temporarily_unavailable"),
    ],
)
async def test_refused_offer_keeps_no_file(
    site: OfferedSite, status: int, text: str, answered: int, error: str
) -> None:
    site.answers.append(web.Response(status=status, text=text))

    refused = await upload(site.http, site.phone)

    assert (refused.status, refused.body["error"]) == (answered, error)
    assert stored_files(site.folder) == []


class Cleaning(NamedTuple):
    cleaner: FileCleaner
    store: ObjectFileStore
    records: SqlFileRecords
    clock: Clock
    folder: Path

    async def put(self, key: str, *, lifetime: float | None = None) -> None:
        """Store a file; with a record if it has a lifetime."""
        writer = self.store.open_writer(key, media_type="image/png", disposition="attachment")
        await writer.write(PNG)
        await writer.close()
        if lifetime is not None:
            await self.records.add(self._file(key, lifetime))

    def _file(self, key: str, lifetime: float) -> StoredFile:
        now = self.clock()
        return StoredFile(
            id=new_file_id(),
            owner=owner_of(SHOP, "alice"),
            key=key,
            size=len(PNG),
            media_type="image/png",
            sha256="",
            purpose="",
            name="",
            created_at=now,
            expires_at=now + lifetime,
        )

    def names(self) -> list[str]:
        return sorted(file.name for file in stored_files(self.folder))


@pytest.fixture
async def cleaning(tmp_path: Path, records_file: Path, clock: Clock) -> AsyncIterator[Cleaning]:
    folder = tmp_path / "files"
    store = ObjectFileStore(folder.as_uri())
    async with connected(f"sqlite+aiosqlite:///{records_file}") as database:
        records = SqlFileRecords(database)
        cleaner = _cleaner(store, records, clock)
        yield Cleaning(cleaner, store, records, clock, folder)


def _cleaner(store: ObjectFileStore, records: SqlFileRecords, clock: Clock) -> FileCleaner:
    return FileCleaner(
        store=store,
        records=records,
        cleanup=records,
        leader_leases=MemoryLeaderLeases(clock),
        clock=clock,
        instance="one",
    )


async def test_job_deletes_expired_files(cleaning: Cleaning) -> None:
    await cleaning.put("red/old", lifetime=10)
    await cleaning.put("red/new", lifetime=1_000)
    cleaning.clock.time += 11

    await cleaning.cleaner.run_once()
    await cleaning.cleaner.run_once()

    assert cleaning.names() == ["new"]
    assert await cleaning.records.expired(now=cleaning.clock(), limit=9) == []


async def test_job_deletes_old_content_without_a_record(cleaning: Cleaning) -> None:
    await cleaning.put("red/unknown")
    await cleaning.put("red/young")
    await cleaning.put("red/known", lifetime=1e10)
    for name in ("unknown", "known"):
        os.utime(cleaning.folder / "red" / name, (0, 0))
    cleaning.clock.time = UNKNOWN_AGE + 1

    await cleaning.cleaner.run_once()

    assert cleaning.names() == ["known", "young"]


WRITER = """
import asyncio, sys
from broker.blobs.files import BUFFER_BYTES, ObjectFileStore

async def main():
    store = ObjectFileStore(sys.argv[1])
    writer = store.open_writer("red/killed", media_type="image/png", disposition="attachment")
    await writer.write(bytes(BUFFER_BYTES + 1))
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize(("age", "rest"), [(UNKNOWN_AGE + 60, []), (60, ["killed#1"])])
async def test_job_deletes_old_rest_of_killed_process(
    cleaning: Cleaning, age: float, rest: list[str]
) -> None:
    await cleaning.put("red/known", lifetime=1e10)
    writer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WRITER, cleaning.folder.as_uri())
    )
    part = cleaning.folder / "red" / "killed#1"
    try:
        await eventually(lambda: part.exists() and part.stat().st_size >= BUFFER_BYTES)
    finally:
        writer.kill()
        await writer.wait()
    cleaning.clock.time = part.stat().st_mtime + age

    await cleaning.cleaner.run_once()

    assert cleaning.names() == sorted([*rest, "known"])


async def test_logs_and_metrics_have_no_name_and_no_signature(
    start_broker: StartBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broker = await start_broker(files_url=(tmp_path / "files").as_uri())
    content = PNG + b"canary-content"
    async with aiohttp.ClientSession(broker.url) as http, PhoneClient(broker.url) as phone:
        headers = session_headers(phone)
        body = file_form(content, "canary-name.png", purpose="canary-purpose")
        url = (await upload(http, headers, body)).body["url"]
        await download(http, url)
        await upload(http, headers, file_form(b"canary-content", "canary-name.png"))
        await download(http, url.replace("t=", "t=x"))
        async with aiohttp.ClientSession(broker.admin) as admin, admin.get("/metrics") as response:
            metrics = await response.text()
    output = "".join(capsys.readouterr()) + metrics

    assert "scanlogin_files_total" in metrics
    assert "canary" not in output
    assert re.findall(r"[?&]t=", output) == []
