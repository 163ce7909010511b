"""python-engineio's own transport on aiohttp, hardened for the internet.

Compared with python-engineio:
- no permessage-deflate, which takes 92 KB for each socket;
- a socket that joins no namespace or does not read is closed;
- request bodies are complete;
- `disconnect` does not wait for the client.

engine.py  python-engineio's server, its sessions and WebSockets
server.py  the Socket.IO server
"""
