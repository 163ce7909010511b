"""The mini program in WeChat's simulator, in Node. miniprogram/*.test.js has the tests."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from broker.errors import Unavailable
from broker.identity.errors import UserBlocked
from broker.identity.model import Identity, UserProfile
from broker.infrastructure.runtime.server import Site, serve_sites
from tests.support.app_admin import TOKEN, Admin, page
from tests.support.builders import FixedDirectory, StartBroker
from tests.support.environment import ROOT, free_port
from tests.support.miniprogram import run_suite

PROGRAM = ROOT / "mp_stub" / "miniprogram"
CONFIRM = PROGRAM / "scan-login" / "confirm"
PAGE = "https://b.example"


class MiniProgramDirectory(FixedDirectory):
    """A directory that blocks `blocked` and is unavailable for `unlucky`."""

    async def find(self, identity: Identity) -> UserProfile:
        if identity.id == "blocked":
            raise UserBlocked
        if identity.id == "unlucky":
            raise Unavailable
        return await super().find(identity)


@pytest.fixture
async def directory() -> MiniProgramDirectory:
    return MiniProgramDirectory("alice", "bob")


@pytest.fixture
async def register_url(directory: MiniProgramDirectory) -> AsyncIterator[str]:
    """The register URL of a site."""

    async def register(request: web.Request) -> web.Response:
        directory.known.add(request.query["name"])
        return web.Response()

    site = web.Application()
    site.add_routes([web.post("/register", register)])
    async with serve_sites([Site("site", site, "127.0.0.1", free_port(), "PORT")]) as addresses:
        yield f"{addresses['site']}/register"


def test_every_file_of_the_manifest_exists() -> None:
    app = json.loads((PROGRAM / "app.json").read_text())

    for name in app["pages"]:
        for kind in ("js", "json", "wxml", "wxss"):
            assert (PROGRAM / f"{name}.{kind}").exists(), f"{name}.{kind}"
    assert (PROGRAM / app["sitemapLocation"]).exists()
    theme = json.loads((PROGRAM / app["themeLocation"]).read_text())
    colours = {value[1:] for value in app["window"].values() if value.startswith("@")}
    assert colours == set(theme["light"]) == set(theme["dark"])


@pytest.mark.parametrize("page", sorted(PROGRAM.rglob("*.wxml")), ids=lambda page: page.stem)
def test_every_tap_has_a_handler(page: Path) -> None:
    script = page.with_suffix(".js").read_text()

    for name in re.findall(r'bind\w+="(\w+)"', page.read_text()):
        assert re.search(rf"^ +{name}\(", script, re.MULTILINE), name


def test_every_error_is_documented() -> None:
    script = (CONFIRM / "outcomes.js").read_text()
    [table] = re.findall(r"const OUTCOME_OF = \{(.*?)\};", script, re.DOTALL)
    titles = (CONFIRM / "words.js").read_text()
    docs = (PROGRAM.parent.parent / "docs" / "miniprogram.md").read_text()

    for error, outcome in re.findall(r'(\w+): "(\w+)"', table):
        [title, *_] = re.findall(rf'{outcome}Title: "(.*)"', titles)
        assert f"| `{error}` | {title} |" in docs


def test_vendored_client_has_the_brokers_version() -> None:
    vendored = PROGRAM / "scan-login" / "vendor" / "socket.io.esm.min.js"
    [version] = re.findall(r"Socket\.IO v([\d.]+)", vendored.read_text())

    assert f"CLIENT_VERSION := {version}\n" in (PROGRAM.parent.parent / "Makefile").read_text()


@pytest.mark.parametrize(
    ("suite", "path"),
    [("pages", ""), ("match", ""), ("library", ""), ("socket", ""), ("socket", "/login-broker")],
)
async def test_mini_program_suite_passes(
    start_broker: StartBroker,
    directory: MiniProgramDirectory,
    register_url: str,
    suite: str,
    path: str,
) -> None:
    public = {"public_url": f"http://127.0.0.1{path}"} if path else {}
    broker = await start_broker(
        directory, app_name="小店 & Co", register_url=register_url, admin_token=TOKEN, **public
    )
    async with Admin(broker.admin) as admin:
        for match in ("number", "code"):
            fields = {"id": match, "name": "Bank", "match": match, "origins": [PAGE]}
            assert (await admin.ask("POST", "/apps", fields)).status == 201
    invitation = await new_invitation(start_broker) if suite == "pages" else ""
    brief = await start_broker(directory, login_lifetime=1, **public)
    strict = await start_broker(directory, misses_per_minute=2, **public)
    urls = {"BROKER": broker.url, "BRIEF_BROKER": brief.url, "STRICT_BROKER": strict.url}
    brokers = {name: f"{url}{path}" for name, url in urls.items()}

    async with page(broker, "code", PAGE) as browser:
        begun = await browser.emit("begin", {})
        await run_suite(suite, **brokers, PAGE_SCENE=begun["scene"], INVITATION=invitation)


async def new_invitation(start_broker: StartBroker) -> str:
    """Return an invitation that brokers with the same records accept."""
    broker = await start_broker("sql", admin_token=TOKEN)
    async with Admin(broker.admin) as admin:
        await admin.ask("POST", "/users", {"id": "u-guest"})
        invited = await admin.ask("POST", "/users/u-guest/invite", {})
    return str(invited.body["invitation"])
