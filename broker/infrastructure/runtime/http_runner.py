"""aiohttp's HTTP server, with bounded parsing and the broker's error body.

aiohttp parses a read of up to 256 KB at once: 43 000 chunks of one byte each take 20 ms. Here a
connection parses `SLICE_BYTES` at a time, in turn with the others.

aiohttp answers requests that it cannot parse, and unknown expectations, before any middleware
runs: as plain text, or with status 500 if a header is not UTF-8.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from broker.errors import BrokerError, InvalidRequest
from broker.infrastructure.api.errors import to_broker_error
from broker.infrastructure.api.responses import FIXED_HEADERS, ResponseHook, json_response
from broker.infrastructure.api.schema import sanitize_text
from broker.infrastructure.runtime.http_direct import (
    PlainRoute,
    is_usual,
    plain_routes,
    serialize,
)
from broker.infrastructure.transport.step_queue import StepQueue

log = structlog.get_logger()

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

SLICE_BYTES = 8 * 1024
"""A browser's request is in one slice; a slice of the smallest chunks takes 1 ms."""

CONTINUE = "100-continue"
"""The only defined expectation (RFC 9110, section 10.1.1)."""


class Runner(web.AppRunner):
    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        return _Server(
            _answering(plain_routes(self.app), _checking_expectations(server.request_handler)),
            response_hooks=tuple(self.app.on_response_prepare),
            request_factory=server.request_factory,
            **server._kwargs,
        )


class _Server(web.Server):
    """turns: the order in which connections parse their slices.

    response_hooks: those of the application, which aiohttp would look up for each response.
    """

    def __init__(
        self, handle: Handle, *, response_hooks: Sequence[ResponseHook], **options: Any
    ) -> None:
        super().__init__(handle, **options)
        self.response_hooks = response_hooks
        self.turns = StepQueue()

    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class _Protocol(RequestHandler):
    """Parses a long read in slices, and nothing after a request that cannot be parsed.

    aiohttp would parse further data until the connection is closed. Each further error would hold
    the data that it was found in, up to 256 KB several times.

    `_unparsed` waits for its turn, and for the end of a pause of aiohttp. Nothing more is read from
    the transport until then.
    """

    __slots__ = ("_is_malformed", "_is_queued", "_response_hooks", "_turns", "_unparsed")

    def __init__(self, manager: _Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._turns = manager.turns
        self._response_hooks = manager.response_hooks
        self._is_malformed = False
        self._is_queued = False
        self._unparsed = bytearray()

    def data_received(self, data: bytes) -> None:
        if data and (self._unparsed or (len(data) > SLICE_BYTES and not self._upgraded)):
            self._wait(data)
        else:
            self._parse(data)

    def _wait(self, data: bytes) -> None:
        self._pause_transport_reading()
        self._unparsed += data
        self._queue_turn()

    def _queue_turn(self) -> None:
        if not self._is_queued:
            self._is_queued = True
            self._turns.add(self._turn)

    def _turn(self) -> None:
        """Parse the next slice. If aiohttp has paused, its resume queues the next turn."""
        self._is_queued = False
        if self.transport is None or self._has_paused:
            return
        part = bytes(self._unparsed[:SLICE_BYTES])
        del self._unparsed[:SLICE_BYTES]
        self._parse(part)
        if not self._has_paused:
            self._resume_transport_reading()

    @property
    def _has_paused(self) -> bool:
        """Whether enough of a body, or enough requests, wait for their handlers."""
        return self._reading_paused or self._buffer_paused

    def _resume_transport_reading(self) -> None:
        if self._unparsed:
            self._queue_turn()
        else:
            super()._resume_transport_reading()

    def _parse(self, data: bytes) -> None:
        if self._is_malformed:
            return
        super().data_received(data)
        self._store_rest_of_upgrade()
        last = self._messages[-1][0] if self._messages else None
        if isinstance(last, _ErrInfo):
            self._is_malformed = True
            last.exc.__traceback__ = None  # its frames hold the data, in a reference cycle

    def _store_rest_of_upgrade(self) -> None:
        """Let aiohttp store all that follows an upgrade request: it may not be HTTP."""
        if self._upgraded and self._unparsed:
            super().data_received(bytes(self._unparsed))
            self._unparsed.clear()

    async def _finish_upgraded(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write a response. aiohttp parses what it has stored if the response declines the upgrade:
        leave it one slice."""
        if not self._messages and len(self._message_tail) > SLICE_BYTES:
            tail = self._message_tail
            self._message_tail = tail[:SLICE_BYTES]
            self._wait(tail[SLICE_BYTES:])
        finished = await super().finish_response(request, resp, start_time)
        self._store_rest_of_upgrade()
        return finished

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write a usual response at once. aiohttp prepares and writes the others."""
        if self._upgraded:
            return await self._finish_upgraded(request, resp, start_time)
        transport = self.transport
        if transport is None or not is_usual(resp, request):
            return await super().finish_response(request, resp, start_time)
        assert isinstance(request, web.Request)
        for hook in self._response_hooks:
            await hook(request, resp)
        transport.write(serialize(resp))
        resp._keep_alive = True
        if self._paused:
            await self._drain_helper()
        return resp, False

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that aiohttp cannot parse, or that failed outside the middlewares."""
        if request.writer.output_size > 0:
            raise ConnectionError("the response has already begun")
        response = _refuse(to_broker_error(_error(status, exc)))
        response.force_close()
        return response


def _error(status: int, exc: BaseException | None) -> Exception:
    if status >= 500 and isinstance(exc, Exception):
        return exc
    if exc is not None:
        exc.__traceback__ = None  # its frames hold the data, in a reference cycle
    # Only the class name: aiohttp's message contains the request.
    log.debug("malformed request", kind=type(exc).__name__)
    return InvalidRequest("the request is not valid HTTP/1.1")


def _answering(routes: Mapping[tuple[str, str], PlainRoute], handle: Handle) -> Handle:
    """Return a function that calls a plain route itself, and `handle` for other requests."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        route = routes.get((request.method, request._message.path))
        if route is None or hdrs.EXPECT in request.headers:
            return await handle(request)
        assert isinstance(request, web.Request)
        request._match_info = route.match_info
        return await route.handler(request)

    return answer


def _checking_expectations(handle: Handle) -> Handle:
    async def checked(request: web.BaseRequest) -> web.StreamResponse:
        expected = request.headers.get(hdrs.EXPECT)
        if expected and expected.lower() != CONTINUE and request.version == HttpVersion11:
            error = InvalidRequest(f"Expect: {sanitize_text(expected, 64)!r} is not supported")
            return _refuse(to_broker_error(error), status=417)
        return await handle(request)

    return checked


def _refuse(error: BrokerError, status: int | None = None) -> web.Response:
    return json_response(error.body(), FIXED_HEADERS, status=status or error.status)
