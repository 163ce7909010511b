"""Files in the mini program. miniprogram/files.test.js has the tests."""

from __future__ import annotations

from pathlib import Path

from tests.support.builders import StartBroker
from tests.support.miniprogram import run_suite


async def test_files_suite_passes(start_broker: StartBroker, tmp_path: Path) -> None:
    broker = await start_broker(files_url=(tmp_path / "files").as_uri())

    await run_suite("files", BROKER=broker.url)
