"""Logs and metrics of complete logins, and of failures, contain no secret."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest
import structlog

from broker.infrastructure.observability import logging as logs
from broker.infrastructure.observability.metrics import render
from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient, PythonBrowser
from tests.support.environment import ROOT
from tests.support.leaks import send_raw

IMPORT_LOGS = "from broker.infrastructure.observability import logging as logs"


async def test_no_secret_reaches_log_or_metric(
    start_broker: StartBroker,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logs.configure("debug")
    canaries = []
    try:
        broker = await start_broker()
        browser = PythonBrowser(["websocket"])
        await browser.connect(broker.url)
        login = await browser.emit("begin", {})
        owned = {"login_id": login["login_id"], "secret": login["secret"]}
        async with PhoneClient(broker.url, "canary-openid") as phone:
            await phone.post("scan", {"scene": login["scene"]})
            await phone.post("scan", {"scene": "canary-scene"})
            await phone.post("confirm", {"login_id": login["login_id"]})
            canaries = [phone.session["skey"], phone.session["id"]]
        token = await browser.emit("redeem", owned)
        await browser.emit("redeem", owned)
        await browser.emit("redeem", {**owned, "secret": "canary-secret"})
        await browser.emit("canary-event", "canary-payload")
        await browser.close()
        await send_raw(broker.url, b"GET /canary HTTP/1.1\r\nX-WX-Skey canary\r\n\r\n")
        await send_raw(broker.url, b"GET /device?user_code=canary\x01 HTTP/1.1\r\n\r\n")
    finally:
        structlog.reset_defaults()
        logs.flush()

    output = "".join(capfd.readouterr()) + render().decode()
    canaries += [login["scene"], login["secret"], token["access_token"], "canary"]
    assert not [canary for canary in canaries if canary in output]


def logged_by(program: str) -> str:
    """Run `program` in a process, and return its stderr."""
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return ran.stderr


def test_log_line_is_json_without_secret_fields() -> None:
    program = (
        f"{IMPORT_LOGS}; import structlog; logs.configure('info');"
        "structlog.get_logger().info('x', secret='s3cr3t', scene='sc3n3', login_id='seen')"
    )
    output = logged_by(program)

    line = json.loads(output)
    assert (line["secret"], line["scene"], line["login_id"]) == ("[hidden]", "[hidden]", "seen")
    assert line["level"] == "info"


@pytest.mark.parametrize("terminal", [False, True])
def test_traceback_shows_no_variables(terminal: bool) -> None:
    program = (
        f"{IMPORT_LOGS}; import sys; import structlog;"
        f"sys.stderr.isatty = lambda: {terminal}; logs.configure('info')\n"
        "def act(secret):\n    raise ValueError('no')\n"
        "try:\n    act('can' + 'ary')\n"
        "except ValueError:\n    structlog.get_logger().exception('failed')\n"
    )
    output = logged_by(program)

    assert "ValueError" in output
    assert "canary" not in output


@pytest.mark.parametrize("level", ["warning", "error"])
def test_log_level_hides_lower_levels(level: str) -> None:
    program = (
        f"{IMPORT_LOGS}; import structlog; logs.configure({level!r});"
        "structlog.get_logger().info('x')"
    )
    output = logged_by(program)
    assert output == ""
