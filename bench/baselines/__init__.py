"""Servers to compare the broker with, with the same durable changes.

    server.js                      Node, Bun: socket.io with @socket.io/redis-adapter
    bun_server.js                  Bun: the same with @socket.io/bun-engine and Bun.serve
    flow.js, login.js, store.js    the login flow of both
    tunnel.js, tunnel_store.js     Node: tunnels with ws; callbacks.js sends with http.Agent
    chat.js                        Node: chat rooms with socket.io and @socket.io/redis-adapter
    http.js, errors.js             Node: requests with JSON bodies; errors
    scripts.js                     Node: the broker's Redis scripts
    secrets.js                     Node: random secrets and their hashes
    oidc_provider.js               Node: the OpenID Provider of npm
    stock.py                       python-socketio on aiohttp, with redis-py
    *.lua                          the Redis scripts of both, the same as the broker's
    ready.py                       the broker, with codes drawn in advance
    wechat.py                      a WeChat stub with a delay

The login servers implement a successful login of docs/protocol.md. The browser gets a push of the
scan and of the confirm. Each act of a phone reads its session. Each change is a
compare-and-set. The servers have no rate limits, no metrics, no repeated requests and no
recovery of lost notices, and save this work. All sign with ES256 and a key that is
parsed once.
"""

from __future__ import annotations

from pathlib import Path

from broker.identity.ports import CodePicture

HERE = Path(__file__).parent

PICTURE = CodePicture(b"<svg/>".ljust(2_025), "image/svg+xml")
"""The image of every code, with the size of an image that the broker draws."""
