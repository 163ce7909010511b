"""The wire: read, call one method, answer.  Decides nothing.

browser.py   Socket.IO namespace /login
phone.py     HTTP /phone/* and Socket.IO namespace /phone
oauth.py     RFC 8628 for browsers and devices without a socket
public.py    key set, health, version, metrics, the widget and its client
wire.py      what requests look like, how failures are answered
gate.py      who knocks, and how often one address may
static/      what is served as it is
"""
