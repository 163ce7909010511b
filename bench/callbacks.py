"""The CPU time of one webhook request, with the keep-alive client and with aiohttp's.

`python -m bench.callbacks` runs both in turns, against one server in another process, and prints
the microseconds of this process for each request. The server answers at once.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import uvloop

from broker.infrastructure.outbound.keep_alive import KeepAliveClient
from broker.infrastructure.outbound.webhook import SignedRequest, SiteClient, sign

SECRET = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LWNhbmFyeS0="  # noqa: S105
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 21\r\n"
    b"Date: Fri, 27 Nov 2026 12:00:00 GMT\r\nServer: bench\r\nConnection: keep-alive\r\n\r\n"
    b'{"reply":{"ok":true}}'
)
REQUESTS, TURNS, CONCURRENT = 2_000, 7, 16

Post = Callable[[], Awaitable[object]]


class AnswerAtOnce(asyncio.Protocol):
    """Answers each segment that ends a request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER)  # type: ignore[attr-defined]


def serve(ports: multiprocessing.SimpleQueue[int]) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(AnswerAtOnce, "127.0.0.1", 0)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


def message() -> SignedRequest:
    data = {"app": "shop", "tunnel_id": "t" * 22, "seq": 7, "meta": {}, "data": {"text": "x" * 100}}
    return sign([SECRET], type="tunnel.message", data=data, now=time.time(), message_id="t.7")


async def post_in_time(client: SiteClient, url: str, request: SignedRequest) -> object:
    async with asyncio.timeout(60.0):
        return await client.post(url, request)


async def measured(post: Post) -> float:
    """Return the CPU seconds of one request."""

    async def many() -> None:
        for _ in range(REQUESTS // CONCURRENT):
            await post()

    began = time.process_time()
    await asyncio.gather(*(many() for _ in range(CONCURRENT)))
    return (time.process_time() - began) / REQUESTS


async def compare(url: str) -> Mapping[str, float]:
    """Return the median microseconds of a request by client, and of a signature."""
    keep_alive = KeepAliveClient(allow_private_address=True)
    aiohttp_client = SiteClient(allow_private_address=True)
    await keep_alive.open()
    await aiohttp_client.open()
    request = message()
    posts: dict[str, Post] = {
        "keep-alive": partial(keep_alive.post, url, request, max_bytes=65_536, seconds=60.0),
        "aiohttp": partial(post_in_time, aiohttp_client, url, request),
    }
    for post in posts.values():
        await measured(post)
    times: dict[str, list[float]] = {name: [] for name in posts}
    for _ in range(TURNS):
        for name, post in posts.items():
            times[name].append(await measured(post))
    await keep_alive.close()
    await aiohttp_client.close()
    return {name: 1e6 * statistics.median(values) for name, values in times.items()}


def main() -> None:
    ports: multiprocessing.SimpleQueue[int] = multiprocessing.SimpleQueue()
    server = multiprocessing.Process(target=serve, args=(ports,), daemon=True)
    server.start()
    results = uvloop.run(compare(f"http://127.0.0.1:{ports.get()}/hook"))
    server.terminate()
    began = time.process_time()
    for _ in range(REQUESTS):
        message()
    results = {**results, "signature": 1e6 * (time.process_time() - began) / REQUESTS}
    for name, microseconds in results.items():
        print(f"{name:12} {microseconds:6.1f} µs")
    print(f"{'ratio':12} {results['keep-alive'] / results['aiohttp']:6.2f}")


if __name__ == "__main__":
    main()
