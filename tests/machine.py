"""What is on this machine: programs, and free ports."""

from __future__ import annotations

import os
import shutil
import socket
from typing import NoReturn

import pytest

CI = bool(os.environ.get("CI"))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
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
