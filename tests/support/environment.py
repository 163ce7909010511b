"""What is on this machine: programs, and free ports."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]
"""The folder of the project."""

CI = bool(os.environ.get("CI"))

AT_ONCE = 16
"""Processes of pytest-xdist that may run side by side."""

_place = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_given: deque[int] = deque(maxlen=100)


def free_port() -> int:
    """A port for a server that is yet to start.

    From below those that the system gives to whoever connects somewhere (32768 and
    up on Linux): one of these might be taken by then.  None that was given lately, here
    or to tests beside these: its server may be yet to start too.
    """
    while True:
        port = random.randrange(15_000 + _place % AT_ONCE, 32_000, AT_ONCE)
        if port in _given:
            continue
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            _given.append(port)
            return port


def need(program: str) -> str:
    """The program's path; without it the test is skipped on a laptop and fails in CI."""
    path = shutil.which(program)
    if path is None:
        miss(f"{program} is not installed: run make test as root on Debian, or install it")
    return path


def need_file(path: str) -> str:
    """`path`, of a program that Debian keeps off the path; as `need` where it is missing."""
    return path if os.path.exists(path) else need(os.path.basename(path))


def miss(what: str) -> NoReturn:
    """Go no further for want of something real: a skip on a laptop, a failure in CI."""
    if CI:
        pytest.fail(what)
    pytest.skip(what)


def shifted(offset: str) -> dict[str, str]:
    """The environment of a process whose clock is `offset` off, its monotonic clock apart."""
    said = subprocess.check_output([need("faketime"), "-f", offset, "env"], text=True)
    variables = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    return {
        "LD_PRELOAD": variables["LD_PRELOAD"],
        "FAKETIME": offset,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
