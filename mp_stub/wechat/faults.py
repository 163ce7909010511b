"""What goes wrong when it is told to, one API at a time.

a number   the errcode that is answered, such as 45009 or -1
slow       the right answer, late
hang       no answer at all
503        a gateway's error page
html       a page in place of an answer, with status 200, as a captive network gives
cut        the right answer, and the connection ends in the middle of it
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from aiohttp import web

from mp_stub.wechat.platform import WeChatRefusal

SLOW_DELAY = 0.5
"""Seconds that a slow answer takes."""

PAGE = "<html><head><title>503</title></head><body>Service Temporarily Unavailable</body></html>"

Respond = Callable[[], Awaitable[web.Response]]
"""Gives the right answer."""


class Fault(NamedTuple):
    """times: how many calls it spoils; None for all."""

    name: str
    times: int | None = None


class Faults:
    """What each API is told to do wrong, by its name; `ended` lets go of whoever hangs."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        self.stopped = asyncio.Event()

    def set(self, api: str, name: str, times: int | None = None) -> None:
        """Raises ValueError for a fault that there is not."""
        if name not in FAULTS and not name.removeprefix("-").isdecimal():
            raise ValueError(f"no fault {name!r}: want an errcode, or one of {', '.join(FAULTS)}")
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
