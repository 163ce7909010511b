"""A connection lost before the end of a request body counts as a client error."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import aiohttp
import pytest

from broker.infrastructure.api.errors import ERRORS
from broker.infrastructure.transport.settings import ENGINES
from tests.support.builders import RunningBroker, StartBroker
from tests.support.polling import open_polling, polling
from tests.support.waiting import eventually

TYPES = {
    "/phone/session": "application/json",
    "/sessions/check": "application/json",
    "/oauth/token": "application/x-www-form-urlencoded",
    "/oauth/device_authorization": "application/x-www-form-urlencoded",
}
FRAMINGS = ("Content-Length: 50\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1\r\n{")
TOKEN = "t" * 32


def error_count(error: str) -> float:
    value: float = ERRORS.labels(error)._value.get()
    return value


async def lose_connection(broker: RunningBroker, path: str, head: str) -> None:
    """Start a request, and reset the connection when the broker reads its body."""
    address = urlsplit(broker.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    start = f"POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    writer.write((start + head).encode())
    assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
    writer.transport.abort()


@pytest.mark.parametrize("framing", FRAMINGS, ids=["length", "chunked"])
@pytest.mark.parametrize("path", TYPES)
async def test_lost_body_counts_as_invalid_request(
    start_broker: StartBroker, path: str, framing: str
) -> None:
    broker = await start_broker(admin_token=TOKEN)
    invalid, unavailable = error_count("invalid_request"), error_count("temporarily_unavailable")
    head = f"Authorization: Bearer {TOKEN}\r\nContent-Type: {TYPES[path]}\r\n{framing}"

    await lose_connection(broker, path, head)

    await eventually(lambda: error_count("invalid_request") == invalid + 1)
    assert error_count("temporarily_unavailable") == unavailable


@pytest.mark.parametrize("engine", ENGINES)
async def test_lost_polling_post_counts_as_invalid_request(
    start_broker: StartBroker, engine: str
) -> None:
    broker = await start_broker(engine=engine)
    invalid, unavailable = error_count("invalid_request"), error_count("temporarily_unavailable")
    async with aiohttp.ClientSession(broker.url) as http:
        sid = await open_polling(http)

        await lose_connection(broker, polling(sid), FRAMINGS[0])

        await eventually(lambda: error_count("invalid_request") == invalid + 1)
    assert error_count("temporarily_unavailable") == unavailable
