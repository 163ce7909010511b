"""What is on this machine: programs, and free ports."""

from __future__ import annotations

import os
import random
import shutil
import socket
from contextlib import suppress
from typing import NoReturn

import pytest

CI = bool(os.environ.get("CI"))


def free_port() -> int:
    """A port for a server that is yet to start.

    From below those that the system gives to whoever connects somewhere (32768 and
    up on Linux): one of these might be taken by then.
    """
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def need(program: str) -> str:
    """The program's path; without it the test is skipped on a laptop and fails in CI."""
    path = shutil.which(program)
    if path is None:
        miss(f"{program} is not installed: run make test as root on Debian, or install it")
    return path


def miss(what: str) -> NoReturn:
    """Go no further for want of something real: a skip on a laptop, a failure in CI."""
    if CI:
        pytest.fail(what)
    pytest.skip(what)
