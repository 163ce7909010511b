"""Tests of roles: a process may serve a part of the API."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import PhoneClient, PythonBrowser, Refused
from tests.support.servers.redis import Engines

PROBES = {
    "browser": ("GET", "/socket.io/?EIO=4&transport=polling"),
    "phone": ("POST", "/phone/session"),
    "oauth": ("POST", "/oauth/device_authorization"),
    "sessions": ("POST", "/sessions"),
    "oidc": ("GET", "/oauth/userinfo"),
}
"""A request that only this role answers. The response may be an error. `chat` has a namespace."""

PUBLIC = [
    "/openapi.json",
    "/.well-known/jwks.json",
    "/.well-known/openid-configuration",
    "/health/live",
    "/health/ready",
    "/version",
    "/scan-login.js",
    "/socket.io/socket.io.min.js",
    "/socket.io/socket.io.esm.min.js",
]


async def serves(broker: RunningBroker, role: str) -> bool:
    method, path = PROBES[role]
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.request(method, path) as response,
    ):
        return response.status not in (404, 405)


async def joins(broker: RunningBroker, namespace: str, auth: object = None) -> bool:
    browser = PythonBrowser(["websocket"])
    try:
        await browser.connect(broker.url, auth, namespace)
    except Refused:
        return False
    finally:
        await browser.close()
    return True


async def has_namespace(broker: RunningBroker, namespace: str) -> bool:
    """Return whether the namespace refuses a CONNECT without credentials by itself."""
    browser = PythonBrowser(["websocket"])
    with pytest.raises(Refused) as refused:
        await browser.connect(broker.url, {}, namespace)
    return "error" in refused.value.data


async def test_all_roles_are_served_by_default(broker: RunningBroker) -> None:
    assert all([await serves(broker, role) for role in PROBES])


async def test_process_serves_only_its_role(start_broker: StartBroker) -> None:
    # The role `phone` also serves sockets.
    for role_served in ("browser", "oauth", "sessions", "oidc"):
        broker = await start_broker(roles=role_served)
        assert [role for role in PROBES if await serves(broker, role)] == [role_served]


async def test_sockets_join_namespaces_of_served_roles_only(start_broker: StartBroker) -> None:
    phones = await start_broker(roles="phone,oauth")
    assert await serves(phones, "oauth")
    async with PhoneClient(phones.url) as phone:
        assert await joins(phones, "/phone", phone.session)
        assert not await joins(phones, "/login")

    browsers = await start_broker(roles="browser")
    assert await joins(browsers, "/login")
    assert not await has_namespace(browsers, "/chat")

    chats = await start_broker(roles="chat")
    assert await has_namespace(chats, "/chat")
    assert not await joins(chats, "/login")


async def test_sockets_and_logic_may_run_in_separate_processes(
    start_broker: StartBroker, engines: Engines, tmp_path: Path
) -> None:
    shared = {"state_url": engines.url("redis"), "key_file": tmp_path / "keys.json"}
    sockets = await start_broker(roles="browser", **shared)
    logic = await start_broker(roles="phone,oauth", **shared)
    browser = PythonBrowser(["websocket"])
    await browser.connect(sockets.url)
    new_login = await browser.emit("begin", {})

    async with PhoneClient(logic.url) as phone:
        await phone.post("scan", {"scene": new_login["scene"]})
        assert (await browser.push())[0] == "login-scanned"
        await phone.post("confirm", {"login_id": new_login["login_id"]})
        assert (await browser.push())[0] == "login-confirmed"

    await browser.close()


@pytest.mark.parametrize("role", [*PROBES, "chat"])
async def test_public_endpoints_are_served_in_every_role(
    start_broker: StartBroker, role: str
) -> None:
    broker = await start_broker(roles=role)

    async with aiohttp.ClientSession(broker.url) as http:
        for path in PUBLIC:
            async with http.get(path) as response:
                assert (path, response.status) == (path, 200)
