"""Benchmarks of CPU, memory and latency, compared with other servers.

    __main__.py    python -m bench [BENCHMARK …]: runs benchmarks, writes RESULTS.md
    benchmarks/    the benchmarks, one file each
    targets/       the servers under test: how to start and reach them
    baselines/     servers to compare the broker with
    protocol.py    the browsers and phones of all targets
    tunnels.py     the clients of tunnels, and their backend
    chat.py        the members of chat rooms
    fleet.py       the servers of one run: their CPU and memory, from /proc
    load.py        the load generator: logins at a steady rate or at a concurrency
    websocket.py   a WebSocket client with low CPU use
    socketio.py    a Socket.IO client over it
    keepalive.py   an HTTP client with low CPU use, over one connection
    leases.py      the cost of a code lease: python -m bench.leases
    results.py     RESULTS.md: medians, spread, machine, versions
    plots.py       the SVG files in plots/

Most figures are CPU time, because wall time depends on the other work of the machine.
The setups take turns in each round. Compare figures within one table only.
"""
