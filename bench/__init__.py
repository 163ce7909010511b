"""How fast and how heavy it is, measured side by side.

    __main__.py    python -m bench [ROW …]: runs rows, writes RESULTS.md
    rows/          what is measured, one file a question; the table of them
    candidates.py  who is measured: how its servers start, what their browsers and phones say
    fleet.py       the servers of one run: their CPU and memory, from /proc
    load.py        logins at a steady rate, and what became of each
    socketio.py    a Socket.IO client over a websocket of its own, light on CPU
    keepalive.py   an HTTP client of one kept connection, likewise
    results.py     RESULTS.md: medians, spread, machine, versions

Figures are CPU rather than wall time, for a machine is seldom alone; they are
taken in rounds in which the candidates take turns.  Compare within one table.
"""
