"""The end of the threads of SQLite connections.

A thread that reports to a closed event loop would print a traceback on stderr.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from broker.records.database import Database
from tests.support.waiting import eventually


class SlowOpen:
    """Opens SQLite files once `allowed` is set. `threads`: those that open one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.allowed = threading.Event()
        self.threads: list[threading.Thread] = []
        self._connect = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", self.connect)

    def connect(self, *arguments: object, **options: object) -> sqlite3.Connection:
        self.threads.append(threading.current_thread())
        self.allowed.wait(60)
        return self._connect(*arguments, **options)  # type: ignore[call-overload]


async def read(database: Database) -> None:
    async with database.read_connection():
        pass


async def test_close_waits_for_a_cancelled_open(
    records_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowOpen(monkeypatch)
    database = Database(f"sqlite+aiosqlite:///{records_file}")
    reader = asyncio.create_task(read(database))
    await eventually(lambda: slow.threads)
    reader.cancel()
    await asyncio.wait([reader])

    thread = slow.threads[0]
    join = thread.join

    def allow_and_join(timeout: float | None = None) -> None:
        slow.allowed.set()
        join(timeout)

    monkeypatch.setattr(thread, "join", allow_and_join)
    await database.close()

    assert not thread.is_alive()
