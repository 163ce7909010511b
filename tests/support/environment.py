"""Programs and free ports of this machine."""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections import deque
from contextlib import suppress
from glob import glob
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]
"""The folder of the project."""

CI = bool(os.environ.get("CI"))

MAX_WORKERS = 16
"""Maximum number of concurrent processes of pytest-xdist."""

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_recent_ports: deque[int] = deque(maxlen=100)


def free_port() -> int:
    """Return a free port for a server that starts later.

    The port is below the ephemeral ports (32768 and up on Linux), which outgoing connections
    may take. It was not returned recently, in this process or in a concurrent one, because
    the server of that port may not have started yet.
    """
    while True:
        port = random.randrange(15_000 + _worker % MAX_WORKERS, 32_000, MAX_WORKERS)
        if port in _recent_ports:
            continue
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            _recent_ports.append(port)
            return port


def need(program: str) -> str:
    """Return the path of the program. If it is missing, skip the test, or fail it in CI."""
    path = shutil.which(program)
    if path is None:
        miss(f"{program} is not installed: run make test as root on Debian, or install it")
    return path


def need_file(path: str) -> str:
    """Return `path` of a program that is not on Debian's PATH; if it is missing, call `need`."""
    return path if os.path.exists(path) else need(os.path.basename(path))


def miss(what: str) -> NoReturn:
    """Skip the test because something is missing, or fail it in CI."""
    if CI:
        pytest.fail(what)
    pytest.skip(what)


FAKETIME = "/usr/lib/*/faketime/libfaketime.so.1"
"""Debian's libfaketime. Its program `faketime` leaves a semaphore behind that is named after its
process id, and fails as soon as the id is used again."""


def shifted(offset: str) -> dict[str, str]:
    """Return the environment of a process whose wall clock differs by `offset`."""
    return {**_faketime(), "FAKETIME": offset}


def set_by(file: Path) -> dict[str, str]:
    """Return the environment of a process whose wall clock differs by the offset in `file`."""
    return {**_faketime(), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}


def _faketime() -> dict[str, str]:
    libraries = glob(FAKETIME)
    if not libraries:
        miss(f"{FAKETIME} does not exist: run make test as root on Debian, or install libfaketime")
    return {"LD_PRELOAD": libraries[0], "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
