"""Servers to compare the broker with. They do the same login with the same durable changes.

    server.js, login.js, store.js  Node: socket.io with @socket.io/redis-adapter, plain or sharded
    stock.py                       python-socketio on aiohttp, with redis-py
    *.lua                          the Redis scripts of both, the same as the broker's
    ready.py                       the broker, with codes drawn in advance
    wechat.py                      a WeChat stub with a delay

They implement a successful login of docs/protocol.md. The browser gets a push of the
scan and of the confirm. Each act of a phone reads its session. Each change is a
compare-and-set. They have no rate limits, no metrics, no repeated requests and no
recovery of lost notices, and save this work. All sign with ES256 and a key that is
parsed once.
"""

from __future__ import annotations

from pathlib import Path

from broker.identity.ports import CodePicture

HERE = Path(__file__).parent

PICTURE = CodePicture(b"<svg/>".ljust(2_025), "image/svg+xml")
"""The image of every code, with the size of an image that the broker draws."""
