"""The host's clock is set while a broker runs."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from tests.support.clients import Payload
from tests.support.commands import LIMIT, starting
from tests.support.device_flow import GRANT
from tests.support.environment import free_port, set_by
from tests.support.waiting import START_TIMEOUT, eventually, wait_until


@pytest.fixture
def clock_file(tmp_path: Path) -> Path:
    """A file with the offset of the broker's clock."""
    file = tmp_path / "offset"
    file.write_text("+0")
    return file


@pytest.fixture
def url(tmp_path: Path, clock_file: Path) -> Iterator[str]:
    """The URL of a broker that has the clock of `clock_file`.

    It has no log and no ready line, because `time.sleep` fails with libfaketime.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{url}/health/ready"):
            return True
        return False

    with starting(tmp_path, limit=LIMIT, **set_by(clock_file), SCAN_LOGIN_PORT=str(port)):
        wait_until(is_ready, START_TIMEOUT)
        yield url


def hours_from_now(moment: float) -> int:
    """Return the nearest number of hours from now to a Unix time in seconds."""
    return round((moment - time.time()) / 3_600)


async def test_polling_continues_after_clock_is_set_back(url: str, clock_file: Path) -> None:
    async with aiohttp.ClientSession(url) as http:

        async def ask(path: str, **form: str) -> Payload:
            async with http.post(path, data={"client_id": "default", **form}) as response:
                answer: Payload = await response.json()
                return answer

        login = await ask("/oauth/device_authorization")

        async def answers(error: str) -> bool:
            poll = {"grant_type": GRANT, "device_code": login["device_code"]}
            return (await ask("/oauth/token", **poll))["error"] == error

        async def is_set_back() -> bool:
            async with http.get("/health/live") as live:
                return hours_from_now(parsedate_to_datetime(live.headers["Date"]).timestamp()) == -1

        await eventually(partial(answers, "slow_down"))
        clock_file.write_text("-1h")
        await eventually(is_set_back)
        await eventually(partial(answers, "authorization_pending"))
