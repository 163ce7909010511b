"""Tests of the process settings that are made before the broker serves."""

from __future__ import annotations

import asyncio
import gc
import resource
from collections.abc import Iterator

import pytest
import structlog
import uvloop

from broker.infrastructure.runtime import process


@pytest.fixture
def hard_limit() -> Iterator[int]:
    """The hard limit of open files. The soft limit is restored after the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_limit_of_open_files_is_raised(hard_limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard_limit), hard_limit))

    assert process.raise_file_limit() == hard_limit

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard_limit, hard_limit)


def test_file_limit_that_cannot_be_raised_is_logged(
    hard_limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise ValueError("not here")

    with monkeypatch.context() as patch, structlog.testing.capture_logs() as lines:
        patch.setattr(resource, "setrlimit", refuse)
        assert process.raise_file_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    assert [line["event"] for line in lines] == ["file limit not raised"]


def test_objects_of_startup_are_frozen_for_the_collector() -> None:
    process.freeze_gc()
    try:
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()


def test_process_runs_on_uvloop() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())

    process.run(main())

    assert isinstance(loops[0], uvloop.Loop)
