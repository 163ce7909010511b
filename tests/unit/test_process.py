"""What a process is tuned to before it serves."""

from __future__ import annotations

import asyncio
import gc
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import uvloop

from broker.infrastructure.runtime import process
from tests.support.commands import serving as command
from tests.support.environment import free_port


@pytest.fixture
def files() -> Iterator[int]:
    """The hard limit; the soft one is put back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_limit_of_open_files_is_raised(files: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, files), files))

    assert process.raise_file_limit() == files

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (files, files)


def test_a_limit_that_cannot_be_raised_is_left_and_told(
    files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise ValueError("not here")

    with monkeypatch.context() as patch, structlog.testing.capture_logs() as lines:
        patch.setattr(resource, "setrlimit", refuse)
        assert process.raise_file_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    assert [line["event"] for line in lines] == ["file limit not raised"]


def test_what_was_made_at_start_is_not_walked_again() -> None:
    process.freeze_gc()
    try:
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()


def test_a_process_runs_on_uvloop() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())

    process.run(main())

    assert isinstance(loops[0], uvloop.Loop)


def test_a_process_runs_without_uvloop() -> None:
    """As it does where there is none."""
    told = (
        "import sys, asyncio; sys.modules['uvloop'] = None\n"
        "from broker.infrastructure.runtime import process\n"
        "async def main(): print(type(asyncio.get_running_loop()).__module__)\n"
        "process.run(main())"
    )

    ran = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, timeout=30)

    assert ran.stdout.startswith("asyncio."), ran.stderr


def test_a_broker_says_how_many_files_it_may_open(tmp_path: Path) -> None:
    with command(tmp_path, SCAN_LOGIN_PORT=str(free_port())) as (_, said):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        assert f"open files {hard})" in said
