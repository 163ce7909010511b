"""Logins with the provider `wechat`."""

from __future__ import annotations

import base64

from tests.support.clients import Payload, PhoneClient, PythonBrowser
from tests.support.wechat import (
    seen_in,
)


def scanned(begun: Payload) -> dict[str, str]:
    """Return the page and scene of the code that the browser shows."""
    head, _, content = begun["code_url"].partition(",")
    assert head == "data:image/png;base64"
    return seen_in(base64.b64decode(content))


async def begin(browser: PythonBrowser) -> Payload:
    answer: Payload = await browser.emit("begin", {})
    return answer


async def confirm(url: str, scene: str, js_code: str, app: str = "default") -> Payload:
    """Scan and confirm with a new session, and return the answer to the scan."""
    async with PhoneClient(url, js_code=js_code, app=app) as phone:
        scan = await phone.post("scan", {"scene": scene})
        done = await phone.post("confirm", {"login_id": scan.body["login_id"]})
        assert done.body["state"] == "confirmed"
        return scan.body
