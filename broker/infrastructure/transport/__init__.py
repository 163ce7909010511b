"""Socket.IO over WebSocket and HTTP long polling.

websocket/     WebSocket connections (RFC 6455); other features may use it by itself
engineio/      Engine.IO 4 sessions
socketio/      Socket.IO 5: python-socketio with stricter rules and another room manager
fallback/      python-engineio's transport, hardened
engines.py     opens the server of one of the two engines
settings.py    the engine, and limits of what clients send
compat.py      private names of other packages that the above use
rate_limit.py  limits what a socket and an address send
step_queue.py  shares the event loop between connections that send much
timer_wheel.py  one timer for many objects

`websocket` imports no other folder, `engineio` imports `websocket`, `socketio` imports both.
"""
