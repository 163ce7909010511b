"""Sends notices of changed logins to instances.

The bus is a hint: a notice may be lost, and the state is authoritative. A notice contains the id
and the new state of a login, and never a token, secret, scene, skey, session_key or js_code.
Each backend is a module; `BUSES` maps URL schemes to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from urllib.parse import urlsplit

from broker.infrastructure.coordination import Bus

BUSES: Mapping[str, str] = {
    "memory": "broker.bus.memory",
    "redis": "broker.bus.redis",
    "rediss": "broker.bus.redis",
    "redis+sentinel": "broker.bus.redis",
    "rediss+sentinel": "broker.bus.redis",
    "redis+cluster": "broker.bus.redis",
    "rediss+cluster": "broker.bus.redis",
}


def open_bus(url: str) -> Bus:
    """Return the bus at `url`, not connected yet.

    Raises ValueError for an unknown scheme or an invalid URL.
    """
    scheme = urlsplit(url).scheme
    if scheme not in BUSES:
        raise ValueError(f"unknown bus {scheme!r}: use one of {', '.join(sorted(BUSES))}")
    bus: Bus = import_module(BUSES[scheme]).open_bus(url)
    return bus
