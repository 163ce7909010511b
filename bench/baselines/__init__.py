"""Servers to measure beside the broker, written for that: the same login, the same durable acts.

    server.js, flow.js, store.js   Node: socket.io with @socket.io/redis-adapter, plain or sharded
    stock.py                       python-socketio on aiohttp, as it comes, with redis-py
    *.lua                          what both run in Redis; the broker's own scripts, word for word
    ready.py                       the broker itself, its codes drawn already
    wechat.py                      a pretend WeChat that takes its time

They speak docs/protocol.md as far as a login that goes well: the browser hears of
the scan and of the confirm, each act of a phone reads its session, and each change
is a compare-and-set.  What the broker does beyond that, limits, metrics, being asked
again, looking for lost notices, they do not, and are the lighter for it.  All sign
with ES256 and a key that is parsed once.
"""

from __future__ import annotations

from pathlib import Path

from broker.providers import Picture

HERE = Path(__file__).parent

PICTURE = Picture(b"<svg/>".ljust(2_025), "image/svg+xml")
"""What stands for every code: as many bytes as one that the broker draws."""
