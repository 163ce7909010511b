"""The events of this instance as server-sent events (HTML Living Standard, section 9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from aiohttp import web

from broker.admin.errors import TooManyWatchers
from broker.infrastructure.api.authorization import OPERATOR
from broker.infrastructure.api.endpoint import ADMIN, Endpoint
from broker.infrastructure.api.responses import StreamedResponse
from broker.infrastructure.codec import encode
from broker.infrastructure.observability.feed import Feed, FeedEvent

KEEP_ALIVE_INTERVAL = 15.0
"""Seconds without an event after which a comment is sent. It finds lost connections."""

STREAM_MAX = 300.0
"""Seconds after which a stream ends and the watcher authenticates again."""

KEEP_ALIVE = b": keep-alive\n\n"


class EventsAPI:
    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    async def stream(self) -> web.Response:
        """Raises TooManyWatchers."""
        if self._feed.is_full:
            raise TooManyWatchers
        headers = {"Cache-Control": "no-store", "Content-Type": "text/event-stream"}
        return StreamedResponse(self._lines(), headers)

    async def _lines(self) -> AsyncGenerator[bytes, None]:
        end = asyncio.get_running_loop().time() + STREAM_MAX
        async with self._feed.watch() as watcher:
            yield KEEP_ALIVE  # the headers are sent with it
            while not watcher.is_closed and asyncio.get_running_loop().time() < end:
                try:
                    async with asyncio.timeout(KEEP_ALIVE_INTERVAL):
                        events = await watcher.take()
                except TimeoutError:
                    yield KEEP_ALIVE
                    continue
                if events:
                    yield b"".join(map(_event, events))


def _event(event: FeedEvent) -> bytes:
    """Return the event. The kind is a word of the broker, and JSON has no line breaks."""
    data = {"state": event.state, "id": event.id, "app": event.app}
    shown = {name: value for name, value in data.items() if value}
    return b"event: %b\ndata: %b\n\n" % (event.kind.encode(), encode(shown))


ENDPOINTS = [
    Endpoint(
        "GET",
        "/events",
        EventsAPI.stream,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="streamEvents",
        summary="The events of the answering instance, as server-sent events",
        response="text/event-stream",
        errors=(TooManyWatchers,),
    ),
]
