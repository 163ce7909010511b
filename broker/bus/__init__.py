"""Tells an instance that a login has changed.

The bus is a hint: a notice may be lost, and whoever missed one finds the truth
in the state.  A notice names a login and what became of it, and nothing else
ever: no token, secret, scene, skey, session_key or js_code travels here.
Each backend is one file; `BUSES` is the table of them, by URL scheme.
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
    """The bus that `url` names, not yet connected.

    Raises ValueError for a scheme that is not in `BUSES`, or a URL that names nothing.
    """
    scheme = urlsplit(url).scheme
    if scheme not in BUSES:
        raise ValueError(f"unknown bus {scheme!r}: want one of {', '.join(sorted(BUSES))}")
    bus: Bus = import_module(BUSES[scheme]).open_bus(url)
    return bus
