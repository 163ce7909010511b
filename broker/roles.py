"""The wire: read, call one method, answer.  Decides nothing.

browser.py     Socket.IO namespace /login
phone.py       HTTP /phone/* and Socket.IO namespace /phone
sessions.py    HTTP /sessions, for apps' own servers
oauth.py       RFC 8628 for browsers and devices without a socket
public.py      key set, health, version, metrics, the widget and its client
admin.py       apps, on the operator's port
calls.py       every call over HTTP, in a table
openapi.py     its description, made of that table
namespace.py   who is in a namespace, and an answer to everything they say
wire.py        what requests look like, how failures are answered
addresses.py   the client's address behind trusted proxies
gate.py        rate limits, and the Origins that may connect
pages.py       what the broker's own pages are made of
static/        what is served as it is
"""

from __future__ import annotations

ROLES = ("browser", "phone", "oauth", "sessions")
"""The edges that a process may serve or leave to others; what anybody may ask is always there."""
