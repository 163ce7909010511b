"""Socket.IO 5: python-socketio with stricter rules.

server.py  rules for every transport
native.py  the server over the broker's Engine.IO
rooms.py   namespaces and rooms
"""
