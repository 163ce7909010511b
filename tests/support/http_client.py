"""The base of clients that have an HTTP session."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import aiohttp


class HTTPClient:
    """A client to be used by `async with`. It closes `http`."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.http = http

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.http.close()
