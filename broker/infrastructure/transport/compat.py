"""Private names of other packages that the broker's transport uses.

The packages are pinned to exact versions because of these names. If an installation has other
versions and a name is missing, the broker uses the fallback transport and logs a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import engineio
import socketio
from aiohttp.http import HttpRequestParser
from aiohttp.web_protocol import RequestHandler
from socketio import packet

CLASS_ATTRIBUTES: Mapping[type, tuple[str, ...]] = {
    HttpRequestParser: ("feed_data",),
    RequestHandler: ("_message_tail", "connection_lost", "force_close", "transport"),
    socketio.AsyncServer: (
        "_engineio_server_class",
        "_get_event_handler",
        "_handle_ack",
        "_handle_connect",
        "_handle_disconnect",
        "_handle_eio_disconnect",
        "_handle_eio_message",
        "_handle_event",
        "_send_packet",
        "_trigger_event",
    ),
    socketio.AsyncManager: (
        "_generate_ack_id",
        "basic_close_room",
        "basic_disconnect",
        "basic_enter_room",
        "basic_leave_room",
        "connect",
        "eio_sid_from_sid",
        "emit",
        "get_namespaces",
        "get_participants",
        "get_rooms",
        "is_connected",
        "is_pre_connected",
        "is_sid_room",
        "pre_connect",
        "pre_disconnect",
        "sid_from_eio_sid",
    ),
    packet.Packet: ("_reconstruct_binary_internal",),
    engineio.AsyncServer: ("disconnect", "generate_id", "reason", "send_packet", "shutdown"),
}
"""Attributes of a class, or slots of its instances."""

SERVER_ATTRIBUTES = (
    "_binary_packet",
    "environ",
    "handlers",
    "manager",
    "namespace_handlers",
    "not_handled",
)
"""Attributes of an instance of `socketio.AsyncServer`."""

ENGINE_ATTRIBUTES = (
    "allow_upgrades",
    "handlers",
    "max_http_buffer_size",
    "ping_interval",
    "ping_timeout",
    "transports",
)
"""Attributes of an instance of `engineio.AsyncServer`."""


def missing_attributes() -> list[str]:
    """The missing names, as `Class.name`."""
    return sorted(_missing_of(CLASS_ATTRIBUTES)) or sorted(_missing_of(_instances()))


def _instances() -> Mapping[object, tuple[str, ...]]:
    server = socketio.AsyncServer(async_mode="aiohttp")
    return {
        server: SERVER_ATTRIBUTES,
        server.eio: ENGINE_ATTRIBUTES,
        server.manager: ("callbacks",),
    }


def _missing_of(required: Mapping[Any, tuple[str, ...]]) -> Iterator[str]:
    for owner, names in required.items():
        owner_class = owner if isinstance(owner, type) else type(owner)
        yield from (f"{owner_class.__name__}.{name}" for name in names if not hasattr(owner, name))
