"""WebSocket server connections (RFC 6455). Engine.IO is one user of this package.

acceptor.py    reads the upgrade request of a new connection, before aiohttp
handshake.py   rules and response of the handshake, and takeover of an aiohttp connection
connection.py  one connection after its handshake
frames.py      frames, without I/O
"""
