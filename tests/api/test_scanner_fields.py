"""Fields about the app and the person who scanned, in the answers to a browser."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from broker.directories.open import OpenDirectory
from broker.errors import Unavailable
from broker.identity.model import Identity, UserProfile
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import Payload, PhoneClient, PythonBrowser
from tests.support.device_flow import GRANT

PICTURE = "https://site.example/alice.png"
LOGO = "https://site.example/logo.svg"


class NamedDirectory(OpenDirectory):
    """A directory in which everyone is Alice Smith."""

    async def find(self, identity: Identity) -> UserProfile:
        return UserProfile(subject="user-1", name="Alice Smith", picture=PICTURE)


class FailingDirectory(OpenDirectory):
    async def find(self, identity: Identity) -> UserProfile:
        raise Unavailable


async def scanned(broker: RunningBroker) -> tuple[Payload, Payload]:
    """The push and the answer to `resume` after a scan."""
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)
    begun = await browser.emit("begin", {})
    async with PhoneClient(broker.url) as phone:
        await phone.post("scan", {"scene": begun["scene"]})
    _, push = await browser.push()
    answer = await browser.emit("resume", {name: begun[name] for name in ("login_id", "secret")})
    await browser.close()
    return push, answer


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ("off", None),
        ("name", {"name": "A***"}),
        ("picture", {"name": "A***", "picture": PICTURE}),
    ],
)
async def test_browser_gets_the_scanner_if_the_app_allows(
    start_broker: StartBroker, setting: str, shown: Any
) -> None:
    broker = await start_broker(NamedDirectory(), show_scanner=setting)

    push, answer = await scanned(broker)

    assert answer.get("scanner") == shown
    assert push.get("scanner") == (True if shown else None)
    assert "Alice" not in str(push) + str(answer)


async def test_failing_directory_only_hides_the_name(start_broker: StartBroker) -> None:
    broker = await start_broker(FailingDirectory(), show_scanner="picture")

    _, answer = await scanned(broker)

    assert answer["state"] == "scanned"
    assert "scanner" not in answer


async def test_polling_browser_gets_the_scanner(start_broker: StartBroker) -> None:
    broker = await start_broker(NamedDirectory(), show_scanner="name")
    async with aiohttp.ClientSession(broker.url) as http, PhoneClient(broker.url) as phone:
        form = {"client_id": "default"}
        async with http.post("/oauth/device_authorization", data=form) as response:
            begun = await response.json()
        await phone.post("scan", {"scene": begun["scene"]})
        form |= {"grant_type": GRANT, "device_code": begun["device_code"]}
        async with http.post("/oauth/token", data=form) as response:
            answer = await response.json()

    assert answer["scanner"] == {"name": "A***"}


async def test_begin_returns_the_app_and_its_link(start_broker: StartBroker) -> None:
    broker = await start_broker(
        app_name="Red shop", logo_url=LOGO, open_url="https://app.example/in?s={scene}"
    )
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)

    begun = await browser.emit("begin", {})
    await browser.close()

    assert begun["app"] == {"name": "Red shop", "provider": "pretend", "logo_url": LOGO}
    assert begun["open_url"] == f"https://app.example/in?s={begun['scene']}"


async def test_link_leads_to_the_login_of_its_browser(start_broker: StartBroker) -> None:
    broker = await start_broker()
    browser = PythonBrowser(["websocket"])
    await browser.connect(broker.url)
    begun = await browser.emit("begin", {})
    proof = {name: begun[name] for name in ("login_id", "secret")}

    link = await browser.emit("link", proof)
    refused = await browser.emit("link", {**proof, "secret": "x" * 43})
    await browser.close()

    assert link["verification_uri"] == f"{broker.url}/device"
    assert link["verification_uri_complete"].endswith(f"?user_code={link['user_code']}")
    assert refused["error"] == "invalid_grant"
    async with PhoneClient(broker.url) as phone:
        scan = await phone.post("scan", {"scene": link["user_code"]})
    assert scan.body["login_id"] == begun["login_id"]
