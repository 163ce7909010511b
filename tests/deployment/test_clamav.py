"""Uploads with ClamAV's daemon. Its only signature is that of the EICAR test file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from broker.files.clamd import ClamdScanner
from broker.files.errors import ScannerUnavailable
from deploy.processes import Process, start_process
from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient
from tests.support.environment import need_file
from tests.support.files import (
    EICAR,
    PNG,
    file_form,
    session_headers,
    stored_files,
    upload,
    upload_once,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.deployment

STREAM_MAX_BYTES = 1024 * 1024

CONFIGURATION = """
Foreground yes
LocalSocket {folder}/clamd.ctl
DatabaseDirectory {folder}/signatures
TemporaryDirectory {folder}
StreamMaxLength {stream_max}
ExtendedDetectionInfo yes
"""
"""The defaults of ClamAV, and the longer answers of Debian's configuration."""


class Clamd(NamedTuple):
    socket: Path
    process: Process


@asynccontextmanager
async def running_daemon(folder: Path) -> AsyncIterator[Clamd]:
    """Run the daemon, once it answers."""
    signatures = folder / "signatures"
    signatures.mkdir(exist_ok=True)
    (signatures / "test.ndb").write_text(f"Eicar-Test-Signature:0:*:{EICAR.hex()}\n")
    file = folder / "clamd.conf"
    file.write_text(CONFIGURATION.format(folder=folder, stream_max=STREAM_MAX_BYTES))
    command = [need_file("/usr/sbin/clamd"), "--config-file", str(file)]
    process = await start_process("clamd", command, folder)
    clamd = Clamd(folder / "clamd.ctl", process)
    try:
        await eventually(lambda: answers(clamd))
        yield clamd
    finally:
        await process.stop()


async def in_chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 65_536):
        yield body[start : start + 65_536]


async def answers(clamd: Clamd) -> bool:
    assert clamd.process.exit_code is None, clamd.process.log.read_text()
    try:
        await ClamdScanner(clamd.socket).ping()
    except ScannerUnavailable:
        return False
    return True


@pytest.fixture
async def clamd(tmp_path: Path) -> AsyncIterator[Clamd]:
    async with running_daemon(tmp_path) as running:
        yield running


async def test_clean_file_is_stored(
    clamd: Clamd, start_broker: StartBroker, tmp_path: Path
) -> None:
    content = PNG + bytes(STREAM_MAX_BYTES - len(PNG))

    answer = await upload_once(
        start_broker, tmp_path, in_chunks(file_form(content)), clamd=clamd.socket
    )

    assert answer.status == 201
    assert [file.stat().st_size for file in stored_files(tmp_path / "files")] == [len(content)]


@pytest.mark.parametrize("rest", [b"", bytes(500_000)], ids=["short", "long"])
async def test_infected_file_is_not_kept(
    clamd: Clamd, start_broker: StartBroker, tmp_path: Path, rest: bytes
) -> None:
    body = file_form(PNG + rest + EICAR)

    answer = await upload_once(start_broker, tmp_path, body, clamd=clamd.socket)

    assert (answer.status, answer.body["error"]) == (422, "infected")
    assert stored_files(tmp_path / "files") == []


@pytest.mark.parametrize("excess", [1, 8 * STREAM_MAX_BYTES], ids=["one-byte", "much"])
async def test_file_over_stream_limit_is_unavailable(
    clamd: Clamd,
    start_broker: StartBroker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    excess: int,
) -> None:
    content = PNG + bytes(STREAM_MAX_BYTES - len(PNG) + excess)

    answer = await upload_once(
        start_broker, tmp_path, in_chunks(file_form(content)), clamd=clamd.socket
    )

    assert (answer.status, answer.body["error"]) == (503, "temporarily_unavailable")
    assert stored_files(tmp_path / "files") == []
    assert "compare its StreamMaxLength" in "".join(capsys.readouterr())


async def test_uploads_are_refused_while_daemon_is_stopped(
    clamd: Clamd, start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = await start_broker(files_url=(tmp_path / "files").as_uri(), clamd=clamd.socket)
    async with aiohttp.ClientSession(broker.url) as http, PhoneClient(broker.url) as phone:
        await clamd.process.stop()
        refused = await upload(http, session_headers(phone))
        async with running_daemon(tmp_path):
            accepted = await upload(http, session_headers(phone))

    assert (refused.status, refused.body["error"]) == (503, "temporarily_unavailable")
    assert accepted.status == 201
