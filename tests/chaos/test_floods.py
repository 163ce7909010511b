"""Measures and prints the latency of /health/live while eight clients flood a broker."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.flooder import KINDS
from tests.chaos.world import NO_LIMITS, Instance
from tests.support.environment import ROOT

SECONDS = 5.0
"""Duration of each flood."""

REQUEST_INTERVAL = 0.02
"""Seconds between two requests."""

DEFAULTS = dict.fromkeys(NO_LIMITS, "")
"""Removes the variables: an empty variable is not set."""


@contextmanager
def flooded(instance: Instance, kind: str) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.chaos.flooder", f"127.0.0.1:{instance.port}", kind]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"flooding\n"
            yield
        finally:
            process.kill()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def latencies(instance: Instance) -> list[float]:
    """Return the sorted milliseconds of requests, each over a new connection."""
    found = []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        began = time.monotonic()
        link = http.client.HTTPConnection(instance.host, instance.port, timeout=30)
        link.request("GET", "/health/live")
        assert link.getresponse().status == 200
        link.close()
        found.append(1000 * (time.monotonic() - began))
        time.sleep(REQUEST_INTERVAL)
    return sorted(found)


@pytest.mark.chaos_long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["own", "stock"])
@pytest.mark.parametrize("limits", ["limits", "no limits"])
async def test_health_is_answered_while_eight_clients_flood(
    tmp_path: Path, engine: str, limits: str, capsys: pytest.CaptureFixture[str]
) -> None:
    instance = Instance(
        "flooded",
        folder=tmp_path,
        state_url="memory://",
        variables={"SCAN_LOGIN_ENGINE": engine, **(DEFAULTS if limits == "limits" else {})},
    )
    await instance.start()
    try:
        for kind in ("nothing", *KINDS, "polling"):
            used = cpu_seconds(instance.pid)
            if kind == "nothing":
                found = latencies(instance)
            else:
                with flooded(instance, kind):
                    found = latencies(instance)
            used = cpu_seconds(instance.pid) - used
            with capsys.disabled():
                median, p99 = (found[int(share * len(found))] for share in (0.5, 0.99))
                print(
                    f"\n{engine}, {limits}, {kind}: {len(found)} answers, "
                    f"median {median:.1f} ms, p99 {p99:.1f} ms, slowest {found[-1]:.1f} ms, "
                    f"{100 * used / SECONDS:.0f} % of a core",
                    end="",
                )
            assert instance.runs()
    finally:
        instance.kill()
