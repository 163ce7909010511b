"""The host's clock is set while a broker with `memory://` runs."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp
import pytest

from tests.support.app_admin import RED, TOKEN, Admin
from tests.support.clients import Payload, PhoneClient
from tests.support.commands import LIMIT, starting
from tests.support.device_flow import GRANT
from tests.support.environment import free_port, set_by
from tests.support.logins import browser_at, secret_of
from tests.support.waiting import START_TIMEOUT, eventually, wait_until

STEPS = {"+1h": 1, "-1h": -1}
"""Hours."""


class SteppedHost:
    """A host whose clock can be set, and the settings of a broker there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.admin_port = free_port(), free_port()
        self._offset = folder / "offset"
        self._offset.write_text("+0")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def variables(self) -> dict[str, str]:
        return {
            **set_by(self._offset),
            "SCAN_LOGIN_PORT": str(self.port),
            "SCAN_LOGIN_ADMIN_PORT": str(self.admin_port),
            "SCAN_LOGIN_ADMIN_TOKEN": TOKEN,
        }

    @contextmanager
    def broker(self, **variables: str) -> Iterator[str]:
        """Run a broker, and yield its URL.

        It has no log and no ready line, because `time.sleep` fails with libfaketime.
        """
        with starting(self.folder, limit=LIMIT, **self.variables, **variables):
            wait_until(self._is_ready, START_TIMEOUT)
            yield self.url

    def _is_ready(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/health/ready"):
            return True
        return False

    async def set_clock(self, offset: str) -> None:
        """Set the clock, and return when the broker has the new time."""
        self._offset.write_text(offset)

        async def is_set() -> bool:
            async with aiohttp.ClientSession() as http, http.get(f"{self.url}/health/live") as live:
                date = parsedate_to_datetime(live.headers["Date"]).timestamp()
            return hours_from_now(date) == STEPS[offset]

        await eventually(is_set)


def hours_from_now(moment: float) -> int:
    """Return the nearest number of hours from now to a Unix time in seconds."""
    return round((moment - time.time()) / 3_600)


@pytest.fixture
def host(tmp_path: Path) -> SteppedHost:
    return SteppedHost(tmp_path)


@pytest.fixture
def url(host: SteppedHost) -> Iterator[str]:
    """The URL of a broker whose logins live for two minutes."""
    with host.broker() as url:
        yield url


@pytest.mark.parametrize("step", STEPS)
async def test_login_continues_after_the_clock_is_set(
    host: SteppedHost, url: str, step: str
) -> None:
    async with browser_at(url) as browser, PhoneClient(url) as phone:
        begun = await browser.emit("begin", {})

        await host.set_clock(step)
        await phone.post("scan", {"scene": begun["scene"]})
        await phone.post("confirm", {"login_id": begun["login_id"]})
        redeemed = [await browser.emit("redeem", secret_of(begun)) for _ in range(2)]

    assert [answer["token_type"] for answer in redeemed] == ["Bearer", "Bearer"]


@pytest.mark.parametrize("step", STEPS)
async def test_login_expires_after_the_clock_is_set(host: SteppedHost, step: str) -> None:
    with host.broker(SCAN_LOGIN_LOGIN_LIFETIME="5") as url:
        async with browser_at(url) as browser:
            begun = await browser.emit("begin", {})

            await host.set_clock(step)
            event, _ = await browser.push()
            refused = await browser.emit("redeem", secret_of(begun))

    assert (event, refused["error"]) == ("login-expired", "expired_token")


async def test_polling_continues_after_clock_is_set_back(host: SteppedHost, url: str) -> None:
    async with aiohttp.ClientSession(url) as http:

        async def ask(path: str, **form: str) -> Payload:
            async with http.post(path, data={"client_id": "default", **form}) as response:
                answer: Payload = await response.json()
                return answer

        login = await ask("/oauth/device_authorization")

        async def poll() -> str:
            form = {"grant_type": GRANT, "device_code": login["device_code"]}
            return str((await ask("/oauth/token", **form))["error"])

        async def is_answered() -> bool:
            return await poll() == "authorization_pending"

        assert [await poll(), await poll()] == ["authorization_pending", "slow_down"]
        await host.set_clock("-1h")
        await eventually(is_answered)


@pytest.mark.parametrize("step", STEPS)
async def test_records_have_the_time_of_the_host(host: SteppedHost, url: str, step: str) -> None:
    await host.set_clock(step)
    async with Admin(f"http://127.0.0.1:{host.admin_port}") as admin:
        added = await admin.ask("POST", "/apps", RED)

    assert hours_from_now(added.body["created_at"]) == STEPS[step]
