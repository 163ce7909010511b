"""The transport under python-socketio.

own.py       python-socketio over an engine of our own:
  doorman.py   takes websockets in before aiohttp has made anything of them
  sessions.py  Engine.IO: handshakes, polling, upgrades, messages in order
  handshakes.py  what a request must be, and how it is refused
  sockets.py   a websocket and a long-polling session, nothing else for each
  frames.py    RFC 6455, without any I/O
  turns.py     shares the event loop between sockets that send much
  rates.py     how much a socket and an address may send
  wheel.py     one timer for all heartbeats
  rooms.py     who is in which namespace and room
  names.py     what of other packages it leans on
stock.py     python-engineio's transport, to fall back on
strict.py    what both have in common: python-socketio, stricter

`Refused` is what a CONNECT handler raises to turn a socket away with an error body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import structlog
from aiohttp import web
from socketio.exceptions import ConnectionRefusedError as _ConnectionRefused

from broker.engine.doorman import WELCOME, Doorman, Welcome
from broker.engine.handshakes import origin_of
from broker.engine.names import missing
from broker.engine.rates import ClientLimits, RateLimiter
from broker.engine.strict import StrictServer as Server

log = structlog.get_logger()

__all__ = [
    "ENGINES",
    "WELCOME",
    "ClientLimits",
    "Doorman",
    "RateLimiter",
    "Refused",
    "Server",
    "Welcome",
    "open_server",
    "origin_of",
]

ENGINES: Mapping[str, str] = {"own": "broker.engine.own", "stock": "broker.engine.stock"}


def open_server(
    engine: str,
    *,
    allow_origin: Callable[[str], bool],
    describe: Callable[[web.Request], Any],
    rates: RateLimiter | None = None,
) -> Server:
    """python-socketio's server over the `engine` of that name in `ENGINES`.

    The stock one in place of our own, with a warning, where that could not work.
    """
    if engine == "own" and (lacking := missing()):
        log.warning(
            "falling back on the stock engine: other packages have changed", lacking=lacking
        )
        engine = "stock"
    server: Server = import_module(ENGINES[engine]).Server(
        allow_origin=allow_origin, describe=describe, rates=rates
    )
    return server


class Refused(_ConnectionRefused):  # type: ignore[misc]  # python-socketio has no types
    """The client sees `connect_error` with the description as message and `body` as data."""

    def __init__(self, body: Mapping[str, str | int]) -> None:
        super().__init__(body["error_description"], dict(body))
