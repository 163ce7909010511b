"""Engine.IO 4: sessions over WebSocket and HTTP long polling, behind python-engineio's interface.

server.py         requests, and the methods that python-socketio calls
request_rules.py  valid requests, and CORS
session_table.py  starts and ends sessions, and passes their messages on
sessions.py       the protocol of a session, and a session over a WebSocket
polling.py        a session over long polling
upgrade.py        moves a session from long polling to a WebSocket
heartbeat.py      PINGs, and time limits of sessions
inbox.py          handles the messages of each session in order
packets.py        packets
bodies.py         bodies of polling requests
errors.py         rejections
"""
