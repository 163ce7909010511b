"""Faults that a test can set for each API.

a number   an answer with this errcode, such as 45009 or -1
slow       the correct answer after a delay
hang       no answer
503        an HTML error page of a gateway, with status 503
html       an HTML page with status 200, as from a captive portal
cut        the first half of the correct answer, then the connection closes
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from aiohttp import web

from mp_stub.wechat.platform import WeChatRefusal

SLOW_DELAY = 0.5
"""Seconds before a slow answer."""

PAGE = "<html><head><title>503</title></head><body>Service Temporarily Unavailable</body></html>"

Respond = Callable[[], Awaitable[web.Response]]
"""Returns the correct answer."""


class Fault(NamedTuple):
    """times: the number of calls with this fault; None for all."""

    name: str
    times: int | None = None


class Faults:
    """The fault of each API. The event `stopped` ends requests that hang."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        self.stopped = asyncio.Event()

    def set(self, api: str, name: str, times: int | None = None) -> None:
        """Set the fault of `api`. Raises ValueError for an unknown fault."""
        if name not in FAULTS and not name.removeprefix("-").isdecimal():
            raise ValueError(
                f"unknown fault {name!r}; use an errcode or one of {', '.join(FAULTS)}"
            )
        self._faults[api] = Fault(name, times)

    def clear(self) -> None:
        self._faults.clear()

    async def answer(self, api: str, request: web.Request, respond: Respond) -> web.StreamResponse:
        name = self._next_fault(api)
        if name is None:
            return await respond()
        if name not in FAULTS:
            raise WeChatRefusal(int(name))
        return await FAULTS[name](self, request, respond)

    def _next_fault(self, api: str) -> str | None:
        fault = self._faults.get(api)
        if fault is None:
            return None
        if fault.times is not None:
            if fault.times <= 1:
                del self._faults[api]
            else:
                self._faults[api] = fault._replace(times=fault.times - 1)
        return fault.name

    async def _slow(self, request: web.Request, respond: Respond) -> web.StreamResponse:
        await asyncio.sleep(SLOW_DELAY)
        return await respond()

    async def _hang(self, request: web.Request, respond: Respond) -> web.StreamResponse:
        await self.stopped.wait()
        return _page(503)

    async def _status(self, request: web.Request, respond: Respond) -> web.StreamResponse:
        return _page(503)

    async def _html(self, request: web.Request, respond: Respond) -> web.StreamResponse:
        return _page(200)

    async def _cut(self, request: web.Request, respond: Respond) -> web.StreamResponse:
        answer = await respond()
        assert isinstance(answer.body, bytes)
        headers = {"Content-Type": answer.content_type, "Content-Length": str(len(answer.body))}
        half = web.StreamResponse(headers=headers)
        await half.prepare(request)
        await half.write(answer.body[: len(answer.body) // 2])
        if request.transport is not None:
            request.transport.close()
        return half


FaultHandler = Callable[[Faults, web.Request, Respond], Awaitable[web.StreamResponse]]

FAULTS: Mapping[str, FaultHandler] = {
    "slow": Faults._slow,
    "hang": Faults._hang,
    "503": Faults._status,
    "html": Faults._html,
    "cut": Faults._cut,
}


def _page(status: int) -> web.Response:
    return web.Response(status=status, text=PAGE, content_type="text/html")
