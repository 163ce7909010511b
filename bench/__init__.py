"""How fast and how heavy it is, measured side by side.

    __main__.py    python -m bench [ROW …]: runs rows, writes RESULTS.md
    rows/          what is measured, one file a question; the table of them
    candidates/    who is measured: how its servers start
    peers/         servers to measure beside the broker, written for that
    protocol.py    what browsers and phones say, the same to all of them
    fleet.py       the servers of one run: their CPU and memory, from /proc
    load.py        logins at a steady rate or as fast as they go, and what became of each
    socketio.py    a Socket.IO client over a websocket of its own, light on CPU
    leases.py      what a lease of a code costs: python -m bench.leases
    keepalive.py   an HTTP client of one kept connection, likewise
    results.py     RESULTS.md: medians, spread, machine, versions
    plots.py       the pictures in plots/

Figures are CPU rather than wall time, for a machine is seldom alone; they are
taken in rounds in which the candidates take turns.  Compare within one table.
"""
