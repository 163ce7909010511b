"""The commands, settings, requests and scripts in the pages about chat, tunnels and Wafer."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from playwright.async_api import Browser, Page

from broker.settings import load_settings
from tests.support.app_admin import TOKEN, Admin
from tests.support.builders import StartBroker
from tests.support.chat import chatting
from tests.support.clients import PhoneClient
from tests.support.commands import Call
from tests.support.doc_examples import shell, structure
from tests.support.environment import ROOT
from tests.support.logins import token_of
from tests.support.pages import open_page
from tests.support.tunnel_client import (
    TunnelWorld,
    reply_with,
    tunnel_world,
)
from tests.support.wafer import KEY, SessionServer, TunnelCalls, serving_business
from web_demo.wafer2_server import Configuration, parse_arguments, read_configuration

CHAT, TUNNELS, WAFER = (
    (ROOT / f"docs/{name}.md").read_text() for name in ("chat", "tunnels", "wafer")
)

SOCKET_IO = ROOT / "broker/widget/static/vendor/socket.io.min.js"

HOST = "biz.example"
"""The host of the business server on the page about Wafer."""


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def commands() -> Iterator[str]:
    for page in (CHAT, TUNNELS, WAFER):
        for block in blocks(page, "sh"):
            yield from re.findall(r"^scan-login .*$", block, re.MULTILINE)


def test_documented_commands_succeed(call: Call) -> None:
    for app in ("red", "shop"):
        call("app", "add", app)
    found = [*commands()]

    assert len(found) == 5
    for command in found:
        words, _, file = command.partition(" < ")
        done = call(*shlex.split(words)[1:], stdin=KEY if file else "")
        assert done.code == 0, (command, done.text)


def test_documented_wafer_settings_are_valid() -> None:
    [lines] = [block for block in blocks(WAFER, "sh") if block.startswith("SCAN_LOGIN_")]
    named = dict(line.removeprefix("SCAN_LOGIN_").split("=") for line in lines.split())

    load_settings(None, **{name.lower(): value for name, value in named.items()})

    assert set(named) == {"WAFER_HOST", "WAFER_KEY"}
    assert named["WAFER_HOST"] == HOST


def test_documented_wafer2_server_has_valid_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    [lines] = [block for block in blocks(WAFER, "sh") if "wafer2_server" in block]
    variables, command = lines.splitlines()
    for name, value in (one.split("=") for one in variables.split()[1:]):
        monkeypatch.setenv(name, value)

    found = read_configuration(parse_arguments(shlex.split(command)[3:]))

    assert found == Configuration("https://login.example", "red", "…", HOST, KEY, f"https://{HOST}")


@pytest.mark.parametrize("column", [1, 2], ids=["default", "red"])
async def test_documented_wafer_urls_answer(start_broker: StartBroker, column: int) -> None:
    rows = dict.fromkeys(("AuthServerUrl", "TunnelServerUrl"), "")
    for line in WAFER.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for name in rows:
            if cells[0].startswith(f"`{name}`"):
                rows[name] = cells[column].strip("`")
    settings = {"wafer_host": HOST, "wafer_key": KEY, "wafer_callbacks_private": True}
    broker = await start_broker(**settings, admin_token=TOKEN)
    async with Admin(broker.admin) as admin:
        fields = {"id": "red", "name": "Red", "wafer_host": HOST, "wafer_key": KEY}
        assert (await admin.ask("POST", "/apps", fields)).status == 201
    auth, tunnel = (url.replace("https://login.example", broker.url) for url in rows.values())

    async with aiohttp.ClientSession() as http, serving_business() as business:
        session = await SessionServer(http, auth.removesuffix("/mina_auth/")).open("pretend:alice")
        created = await TunnelCalls(http, tunnel, host=HOST).create(business.url)

    assert auth.endswith("/mina_auth/")
    assert (session["returnCode"], created["code"]) == (0, 0)


@pytest.fixture
async def world(start_broker: StartBroker) -> AsyncIterator[TunnelWorld]:
    async with tunnel_world(start_broker) as world:
        yield world


async def test_documented_requests_return_documented_answers(world: TunnelWorld) -> None:
    examples = re.findall(r"```sh\n(curl.*?)```\n+```json\n(.*?)```", TUNNELS, re.DOTALL)
    async with Admin(world.broker.admin) as admin:
        await admin.ask(
            "POST", "/apps", {"id": "red", "name": "Red", "tunnel_url": world.backend.url}
        )
        secret = (await admin.ask("POST", "/apps/red/rotate-secret")).body["api_secret"]
    async with PhoneClient(world.broker.url, js_code="pretend:alice", app="red") as phone:
        session = {"ID": phone.session["id"], "SKEY": phone.session["skey"]}
    variables = {"BROKER": world.broker.url, "APP": "red", "SECRET": secret, **session}

    assert len(examples) == 2
    for lines, written in examples:
        answers = await shell(lines, variables)
        assert len(answers) == lines.count("curl")
        for answer in answers:
            assert structure(answer) == structure(json.loads(written)), lines


async def test_documented_verification_has_the_fields(world: TunnelWorld) -> None:
    [written] = [block for block in blocks(TUNNELS, "json") if "tunnel.verify" in block]

    await world.open(subject="user-7")

    assert structure(world.backend.verifications[0]) == structure(json.loads(written))


async def test_documented_callback_has_the_fields(world: TunnelWorld) -> None:
    [written] = [block for block in blocks(TUNNELS, "json") if "tunnel.message" in block]
    world.backend.answers["tunnel.message"] = reply_with(reply=1)
    client = await world.open(subject="user-7", meta={"room": 7})

    await client.send("message", id="1", data={"act": "play"})

    [callback] = await world.backend.received("tunnel.message")
    assert structure(callback.data) == structure(json.loads(written)["data"])


async def test_documented_script_opens_a_tunnel(world: TunnelWorld, chromium: Browser) -> None:
    [script] = blocks(TUNNELS, "js")
    page = await open_page(chromium, f"{world.broker.url}/health/live")
    created = await world.server.create()

    await run_script(page, script, url=created["url"])
    await world.backend.received("tunnel.open")
    await world.server.push(created["tunnel_id"], "hello")

    await page.wait_for_function("shown.includes('hello')")


async def test_documented_script_joins_a_chat(start_broker: StartBroker, chromium: Browser) -> None:
    [script] = blocks(CHAT, "js")
    broker = await start_broker(chat_rooms="open")
    async with chatting(broker.url, "bob") as bob:
        await bob.join()
        await bob.say("before")
        page = await open_page(chromium, f"{broker.url}/health/live")
        await page.evaluate(SOCKET_IO.read_text())
        script = script.replace("https://login.example", broker.url)

        await run_script(page, script, accessToken=await token_of(broker))
        await page.wait_for_function("shown.some(({ text }) => text === 'before')")
        await bob.say("after")

        await page.wait_for_function("shown.some(({ text }) => text === 'after')")


async def run_script(page: Page, script: str, **names: str) -> None:
    """Run a script of the documentation with what its page has besides.  names: its constants."""
    constants = "".join(f"const {name} = {json.dumps(value)};" for name, value in names.items())
    await page.evaluate(
        "(text) => { window.shown = []; window.show = (one) => shown.push(one);"
        " window.list = { clear() { shown.length = 0; } }; new Function(text)(); }",
        constants + script,
    )
