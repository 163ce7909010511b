"""The servers that the official suites of Engine.IO and Socket.IO need, on the broker's engine.

    .venv/bin/python -m tests.support.conformance_peer eio
    .venv/bin/python -m tests.support.conformance_peer sio

The suites are in the folder docs/ of the socket.io repository. They use port 3000.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from broker.infrastructure.runtime import process
from broker.infrastructure.runtime.server import Site, serve_until_signal
from broker.infrastructure.transport.engineio import heartbeat
from broker.infrastructure.transport.engineio.server import EngineIOServer
from broker.infrastructure.transport.socketio.native import NativeServer
from broker.infrastructure.transport.socketio.server import silent_logger

HEARTBEAT: dict[str, Any] = {"ping_interval": 0.3, "ping_timeout": 0.2}
LONGEST = 1_000_000

JOIN_TIMEOUT = 1.0
"""Seconds. The suite waits 2 s for the end of a socket that joins no namespace, after 3 pings."""

NAMESPACES = ("/", "/custom")


def engine_io(**options: float) -> EngineIOServer:
    """Return a server that sends each message back."""
    server = EngineIOServer(
        is_origin_allowed=lambda origin: True,
        logger=silent_logger,
        max_http_buffer_size=LONGEST,
        **{**HEARTBEAT, **options},
    )

    async def do_nothing(sid: str, about: object) -> None: ...

    server.on("connect", do_nothing)
    server.on("message", server.send)
    server.on("disconnect", do_nothing)
    return server


def socket_io(**options: float) -> NativeServer:
    """Return a server that sends back the auth of CONNECT and the arguments of two events."""
    server = NativeServer(
        is_origin_allowed=lambda origin: True,
        describe_request=lambda request: None,
        binary=True,
        max_bytes=LONGEST,
        **{**HEARTBEAT, **options},
    )
    for namespace in NAMESPACES:
        _answer_in(namespace, server)
    return server


def _answer_in(namespace: str, server: NativeServer) -> None:
    async def connect(sid: str, environ: None, auth: Any) -> None:
        server.start_background_task(welcome, sid, auth or {})

    async def welcome(sid: str, auth: Any) -> None:
        await asyncio.sleep(0.02)  # the suite loses a frame that arrives with another
        await server.emit("auth", auth, to=sid, namespace=namespace)

    async def message(sid: str, *arguments: Any) -> None:
        await server.emit("message-back", arguments, to=sid, namespace=namespace)

    async def message_with_ack(sid: str, *arguments: Any) -> tuple[Any, ...]:
        return arguments

    server.on("connect", connect, namespace=namespace)
    server.on("message", message, namespace=namespace)
    server.on("message-with-ack", message_with_ack, namespace=namespace)


def application(peer: EngineIOServer | NativeServer) -> web.Application:
    """Return an application that serves `peer` and closes its sockets at the end."""

    async def close(application: web.Application) -> None:
        await peer.shutdown()

    application = web.Application(client_max_size=LONGEST)
    peer.attach(application)
    application.on_shutdown.append(close)
    return application


PEERS: dict[str, Callable[..., EngineIOServer | NativeServer]] = {
    "eio": engine_io,
    "sio": socket_io,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--port", type=int, default=3000)
    arguments_given = parser.parse_args()
    heartbeat.JOIN_TIMEOUT = JOIN_TIMEOUT

    async def run() -> None:
        site = Site(
            "peer",
            application(PEERS[arguments_given.peer]()),
            "127.0.0.1",
            arguments_given.port,
            "--port",
        )
        await serve_until_signal([site], lambda addresses: print(addresses["peer"], flush=True))

    process.run(run())


if __name__ == "__main__":
    main()
