"""The benchmarks: load generator, baselines, results and plots."""

from __future__ import annotations

import asyncio
import os
import subprocess
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from xml.etree import ElementTree

import pytest

from bench import callgrind, results
from bench import fleet as fleet_module
from bench.baselines import HERE, counted
from bench.benchmarks import (
    Figures,
    Runs,
    Setup,
    chat,
    chat_memory,
    load_benchmark,
    pool,
    soak,
    tunnel,
    tunnel_memory,
)
from bench.benchmarks.compare import BETTER_PEER, BUN, Bars, compare_with_peers
from bench.benchmarks.growth import IDLE_CPU, SERVER_CPU
from bench.fleet import Fleet, fleet
from bench.load import LOST, LoadGenerator, close_all, percentile, run_at_rate, run_concurrently
from bench.plots import Plot, svg
from bench.socketio import Client, ProtocolError
from bench.targets import Target, load_target
from bench.targets.broker import BrokerTarget
from bench.targets.tunnels import TunnelTarget, broker_settings
from tests.support.builders import Clock, RunningBroker, StartBroker
from tests.support.environment import miss

THIS_PROCESS = os.getpid()


def fleet_of(*brokers: RunningBroker, target: Target | None = None) -> Fleet:
    """A fleet of in-process brokers."""
    urls = [item.url for item in brokers]
    return Fleet(target or load_target("broker"), urls, [THIS_PROCESS], THIS_PROCESS)


def without_warm_up(name: str, monkeypatch: pytest.MonkeyPatch) -> Target:
    target = load_target(name)
    monkeypatch.setattr(target, "warm_up", target.warm_up._replace(seconds=0))
    return target


def require_node_modules() -> None:
    if not (HERE / "node_modules").exists():
        miss("the peers are not installed: make bench/baselines/node_modules")


async def test_load_completes_every_login(broker: RunningBroker) -> None:
    generator = LoadGenerator(fleet_of(broker))
    result = await run_at_rate(generator.log_in, rate=50, seconds=0.2)
    generator.close()

    assert not result.lost
    assert len(result.latencies) == 10
    assert 0 < percentile(result.latencies, 0.5) < 5


async def test_many_browsers_are_confirmed_concurrently(broker: RunningBroker) -> None:
    """There are more browsers than a person may have sessions."""
    generator = LoadGenerator(fleet_of(broker))
    browsers = await generator.gather(30, scanned=True)

    latencies = await asyncio.gather(
        *(generator.confirm(item, n) for n, item in enumerate(browsers))
    )

    assert len(latencies) == 30
    close_all(browsers)
    generator.close()


async def test_browser_waits_until_confirm(broker: RunningBroker) -> None:
    generator = LoadGenerator(fleet_of(broker))
    waiting, confirmed = await generator.gather(2, scanned=True)

    await generator.confirm(confirmed, 1)

    assert (waiting.is_waiting, confirmed.is_waiting) == (True, False)
    close_all([waiting, confirmed])
    generator.close()


async def test_concurrent_logins_reach_the_minimum(
    broker: RunningBroker,
) -> None:
    generator = LoadGenerator(fleet_of(broker))
    result = await run_concurrently(generator.log_in, concurrency=2, seconds=0, min_acts=5)
    generator.close()

    assert not result.lost
    assert len(result.latencies) in (5, 6)


@pytest.mark.parametrize("name", ["stock", "node", "node-sharded", "bun", "bun-ws"])
async def test_baseline_completes_logins_over_two_servers(name: str) -> None:
    if name != "stock":
        require_node_modules()
    async with fleet(load_target(name), 2) as servers:
        generator = LoadGenerator(servers)
        result = await run_concurrently(generator.log_in, concurrency=2, seconds=0, min_acts=4)
        generator.close()

    assert not result.lost


async def test_failed_login_is_counted_as_lost(start_broker: StartBroker) -> None:
    broker = await start_broker(begins_per_minute=3)
    generator = LoadGenerator(fleet_of(broker))
    result = await run_at_rate(generator.log_in, rate=50, seconds=0.1)
    generator.close()

    assert len(result.latencies) == 3
    assert result.lost == {"ProtocolError: begin: rate_limited": 2}


async def test_refused_socket_raises_the_reason(broker: RunningBroker) -> None:
    with pytest.raises(ProtocolError, match="invalid_client"):
        await Client.join(
            broker.url, namespace="/login", auth='{"app":"none"}', on_event=lambda *event: None
        )


async def test_frames_are_read_from_single_bytes() -> None:
    frames = [b"\x81\x05first", b"\x81\x7e\x00\x80" + b"x" * 128, b"\x81\x06second"]
    received: list[bytes] = []
    client = Client(namespace="/", auth="{}", on_event=lambda *event: None)
    client._upgraded = True
    client._receive = lambda opcode, payload: received.append(payload)  # type: ignore[method-assign]

    for byte in b"".join(frames):
        client.data_received(bytes([byte]))

    assert received == [b"first", b"x" * 128, b"second"]


async def test_ping_delay_uses_the_servers_interval(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr("bench.socketio.time", SimpleNamespace(perf_counter=clock))
    client = Client(namespace="/", auth="{}", on_event=lambda *event: None)
    client._send = lambda text: None  # type: ignore[method-assign]
    client._packet('0{"pingInterval":500}')

    clock.time += 1.25
    awaited = client.pings
    client._packet("2")

    assert (awaited.received, client.pings.received) == (0, 1)
    assert (awaited.max_delay, client.pings.max_delay) == (0.75, 0.75)


async def test_soak_counts_browsers_before_and_after_the_drop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(soak, "BROWSERS", 30)
    monkeypatch.setattr(soak, "IDLE_SECONDS", 0.5)
    monkeypatch.setattr(soak, "SETTLE_DELAY", 0)
    async with fleet(load_target("broker"), 1) as servers:
        figures = await soak.BENCHMARK.measure(servers, seconds=0.5)

    runs: Runs = {Setup("broker", 1): [figures]}
    [plot] = soak.BENCHMARK.plots(runs)

    assert (figures[soak.LOGINS], figures[LOST], figures[soak.CLOSED]) == (10, 0, 0)
    assert (figures[soak.BEFORE], figures[soak.AFTER]) == (30, 0)
    assert figures[soak.FILES] < 10  # none of a browser; the number of database files varies
    assert "Waiting in /metrics: 30 before, 0 after; bar 0: met." in soak.BENCHMARK.verdict(runs)[3]
    assert [len(line) for line in plot.lines.values()] == [soak.PARTS + 1]


@pytest.mark.parametrize(
    ("name", "scripts"), [("broker-pooled", 2), ("broker-wechat", 1), ("broker-draws", 1)]
)
async def test_begin_runs_expected_number_of_scripts(
    name: str, scripts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "BURST", 10)
    monkeypatch.setattr(pool, "SEQUENTIAL", 2)
    monkeypatch.setattr(pool, "POOL", "30")
    target = load_target(name)
    assert isinstance(target, BrokerTarget)
    settings = {**target._settings, "POOL_SIZE": "30", "POOL_MAX": "30"}
    monkeypatch.setattr(target, "_settings", settings)
    async with fleet(target, 2) as servers:
        figures = await pool.BENCHMARK.measure(servers, seconds=0)

    assert figures[LOST] == 0
    assert scripts <= figures[pool.SCRIPTS] < scripts + 1  # the pool scheduler runs scripts too
    assert 0 < figures[pool.P50] <= figures[pool.P99]


async def test_messages_pass_a_tunnel_in_both_directions(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = cast("TunnelTarget", without_warm_up("broker-tunnel", monkeypatch))
    names = broker_settings(target.callback_port)
    broker = await start_broker(**{name.lower(): value for name, value in names.items()})

    figures = await tunnel.BENCHMARK.measure(fleet_of(broker, target=target), seconds=0.3)

    assert figures[LOST] == 0
    assert figures["round trips per second"] > 0


async def test_node_tunnels_pass_messages_and_stay_open(monkeypatch: pytest.MonkeyPatch) -> None:
    require_node_modules()
    monkeypatch.setattr(tunnel_memory, "TUNNELS", 20)
    monkeypatch.setattr(tunnel_memory, "SETTLE_DELAY", 0)
    async with fleet(without_warm_up("node-tunnel", monkeypatch), 1) as servers:
        passed = await tunnel.BENCHMARK.measure(servers, seconds=0.3)
        held = await tunnel_memory.BENCHMARK.measure(servers, seconds=0)

    assert (passed[LOST], held[LOST]) == (0, 0)
    assert passed["round trips per second"] > 0


async def test_chat_messages_reach_every_member(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "MEMBERS", 5)
    monkeypatch.setattr(chat, "IDLE_SECONDS", 0.1)
    broker = await start_broker(chat_rooms="open")
    target = without_warm_up("broker-chat", monkeypatch)

    figures = await chat.BENCHMARK.measure(fleet_of(broker, target=target), seconds=0.3)

    assert figures[LOST] == 0
    assert 0 < figures["delivery p50, ms"] <= figures["delivery p99, ms"]


async def test_node_chat_delivers_over_two_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    require_node_modules()
    monkeypatch.setattr(chat, "MEMBERS", 6)
    monkeypatch.setattr(chat, "IDLE_SECONDS", 0.1)
    async with fleet(without_warm_up("node-chat", monkeypatch), 2) as servers:
        figures = await chat.BENCHMARK.measure(servers, seconds=0.3)

    assert figures[LOST] == 0


async def test_chat_members_stay_connected(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_memory, "MEMBERS", 8)
    monkeypatch.setattr(chat_memory, "ROOMS", 2)
    monkeypatch.setattr(chat_memory, "SETTLE_DELAY", 0)
    broker = await start_broker(chat_rooms="open")

    figures = await chat_memory.BENCHMARK.measure(fleet_of(broker), seconds=0)

    assert figures[LOST] == 0


def test_child_that_has_ended_uses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["true"]) as child:
        pass
    monkeypatch.setattr(fleet_module, "_family", lambda pid: [pid, child.pid])

    assert len([*fleet_module._family_files(THIS_PROCESS, "statm")]) == 1


def test_verdict_compares_chat_with_node_and_with_fewer_instances() -> None:
    costs = {("broker-chat", 2): 10, ("broker-chat", 8): 12, ("node-chat", 2): 20}
    runs = {
        Setup(*setup): [{chat.SERVER_CPU: cost, chat.ALONE_CPU: cost}]
        for setup, cost in costs.items()
    }

    node, grown, alone = chat.BENCHMARK.verdict(runs)

    assert "0.50 of node-chat, 2 instances (0.50–0.50 by round); bar 1: met." in node
    assert "1.20 of broker-chat, 2 instances (1.20–1.20 by round); bar 1.1: **missed**." in grown
    assert alone.endswith("by round).")


async def test_failed_begin_has_no_latency(start_broker: StartBroker) -> None:
    broker = await start_broker(begins_per_minute=3)
    generator = LoadGenerator(fleet_of(broker))

    latencies = await pool.measure_begins(await pool.connect_browsers(generator, 5))

    assert len(latencies) == 3


def runs(cost: float) -> Runs:
    growth = load_benchmark("growth")
    figures: Figures = {SERVER_CPU: cost, IDLE_CPU: 0}
    return {setup: [figures, figures] for setup in growth.setups}


def test_run_replaces_only_the_section_of_its_benchmark(tmp_path: Path) -> None:
    file = tmp_path / "RESULTS.md"
    file.write_text("# Measured\n\n## another\n\nstays\n")

    results.write("growth", load_benchmark("growth"), runs(1000), "make bench", file)
    results.write("growth", load_benchmark("growth"), runs(2000), "make bench", file)

    text = file.read_text()
    assert text.count("## growth") == text.count("## another") == 1
    assert "stays" in text
    assert "| 2000 |" in text
    assert "| 1000 |" not in text
    assert "broker, 8 instances compared to 2: 1.00 (1.00–1.00 by round)" in text
    assert (tmp_path / "plots/cpu-of-a-confirm.svg").exists()


def test_setup_is_shown_as_target_and_instances() -> None:
    assert str(Setup("broker", 8)) == "broker, 8 instances"
    assert str(Setup("broker", 1)) == "broker, 1 instance"


def test_verdict_compares_equal_numbers_of_instances() -> None:
    costs = {"broker": [1.0, 2.0, 3.0], "node": [2.0, 4.0, 4.0]}
    runs = {Setup(name, 2): [{"ms": cost} for cost in rounds] for name, rounds in costs.items()}

    [met], [missed] = (compare_with_peers(runs, "ms", bars={"node": bar}) for bar in (0.5, 0.4))

    assert met == (
        "ms: broker, 2 instances 0.50 of node, 2 instances (0.50–0.75 by round); bar 0.5: met."
    )
    assert missed.endswith("bar 0.4: **missed**.")


@pytest.mark.parametrize(
    ("bars", "node_bar", "bun_bar"),
    [({BUN: 0.5}, False, True), ({BETTER_PEER: 0.5}, False, True), ({}, False, False)],
)
def test_verdict_applies_bars_to_their_peer(bars: Bars, node_bar: bool, bun_bar: bool) -> None:
    costs = {"broker": 1.0, "node": 4.0, "bun": 2.0, "stock": 8.0}
    runs = {Setup(name, 2): [{"ms": cost}] for name, cost in costs.items()}

    node, bun, bun_by_node, stock = compare_with_peers(runs, "ms", bars=bars)

    assert "broker, 2 instances 0.25 of node" in node
    assert "broker, 2 instances 0.50 of bun" in bun
    assert ("bar" in node, "bar" in bun) == (node_bar, bun_bar)
    assert "bun, 2 instances 0.50 of node" in bun_by_node
    assert "stock, 2 instances 2.00 of node" in stock


def test_plot_draws_every_line() -> None:
    lines = {"broker": [(2, 10), (8, 11)], "<node>": [(2, 20), (8, 40)]}
    picture = ElementTree.fromstring(svg(Plot("CPU", "instances", "ms", lines)))

    drawn = picture.findall("{http://www.w3.org/2000/svg}polyline")
    words = [text.text for text in picture.findall("{http://www.w3.org/2000/svg}text")]

    assert len(drawn) == 2
    assert {"CPU", "instances", "ms", "broker", "<node>", "40"} <= set(words)


PROFILE = """\
ob=(1) /usr/bin/python3.11
fl=(1) ceval.c
fn=(1) eval
12 100
cfn=(2) parse
cob=(2) /x/site-packages/hiredis/hiredis.cpython-311-x86_64-linux-gnu.so
calls=3 0
12 5000
+1 20
ob=(2)
fn=(2)
0 5000
ob=(3) /usr/lib/x86_64-linux-gnu/libcrypto.so.3
* 7
ob=(1)
-2 3
"""
"""A profile in the format of callgrind: the call costs the 5 000 of the function called."""


@pytest.mark.parametrize(("module", "name"), counted.PERIODIC)
def test_interval_of_periodic_work_exists(module: str, name: str) -> None:
    assert getattr(import_module(module), name) > 0


def test_instructions_of_a_profile_are_counted_by_library() -> None:
    assert callgrind.instructions(PROFILE.splitlines()) == {
        "interpreter": 123,
        "hiredis": 5000,
        "libcrypto": 7,
    }


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/x/site-packages/msgspec/_core.cpython-311-x86_64-linux-gnu.so", "msgspec"),
        ("/x/site-packages/_cffi_backend.cpython-311-x86_64-linux-gnu.so", "_cffi_backend"),
        ("/usr/lib/python3.11/lib-dynload/_ssl.cpython-311-x86_64.so", "standard library"),
        ("/usr/bin/python3.11", "interpreter"),
        ("/usr/lib/libpython3.11.so.1.0", "interpreter"),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", "libc"),
        ("???", "other libraries"),
    ],
)
def test_library_is_named_after_its_file(path: str, name: str) -> None:
    assert callgrind.library_name(path) == name
