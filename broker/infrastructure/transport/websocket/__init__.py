"""WebSocket server connections (RFC 6455). Engine.IO is one user of this package.

acceptor.py    reads the upgrade request of a new connection, before aiohttp
handshake.py   rules and response of the handshake, and takeover of an aiohttp connection
connection.py  one connection after its handshake
frames.py      frames, without I/O

An upgrade handler starts a connection:

    def accept(request: UpgradeRequest) -> bool:
        if request.path != "/echo" or not is_websocket_handshake(request):
            return False  # aiohttp answers it
        WebSocketConnection(handler, request.transport).start(request, request.early_data)
        return True

    application[UPGRADE_HANDLER] = accept

An aiohttp route can start one too, with `detach(request.protocol)` and `DetachedResponse`.
Clients whose handshake arrives in pieces, or after another request, need the route.
"""
