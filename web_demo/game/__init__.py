"""Rock-paper-scissors (剪刀石头布) over tunnels. The server has no WebSocket.

page ── act ──▶ broker ── signed callback ──▶ server.py ──▶ lobby.py ──▶ match.py, rules.py
page ◀─ view ── broker ◀─────── push ──────── server.py

rules.py      the hands, and which beats which; pure
match.py      one match of two people; pure
lobby.py      the people, the queue and all matches; pure
callbacks.py  verifies callbacks, answers repeats, and passes acts to the lobby
tunnels.py    the calls of the broker's tunnel API
server.py     the clock and the pushes
routes.py     the page and the routes
game.html, game.css, page.js   the page
client.js, words.js            its logic and texts; the mini program has the same files
tunnel.js                      the client of a tunnel; the mini program's library has it too
"""
