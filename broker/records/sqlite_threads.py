"""The threads of SQLite connections.

aiosqlite runs each connection in a separate thread, which reports each result to the event loop.
If an open or a statement is cancelled or fails, the connection stops without a wait for its thread.
The thread may then report to a loop that is closed, which ends it with a traceback on stderr.
"""

from __future__ import annotations

import asyncio
from threading import Thread
from typing import Any
from weakref import WeakSet

import aiosqlite
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine


class ConnectionThreads:
    """The threads of all connections of an engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._threads: WeakSet[Thread] = WeakSet()

        @event.listens_for(engine.sync_engine, "do_connect")
        def use_creator(dialect: object, record: object, arguments: Any, options: Any) -> None:
            options["async_creator_fn"] = self._connect

    def _connect(self, *arguments: Any, **options: Any) -> aiosqlite.Connection:
        connection = aiosqlite.connect(*arguments, **options)
        connection._thread.daemon = True  # as SQLAlchemy does: the process does not wait for it
        self._threads.add(connection._thread)
        return connection

    async def join(self, seconds: float) -> None:
        """Wait until all threads have ended, at most `seconds` for each.

        The engine has closed its connections before. A thread may still be in a statement.
        """
        for thread in [*self._threads]:
            if thread.is_alive():
                await asyncio.to_thread(thread.join, seconds)
