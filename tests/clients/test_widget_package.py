"""The npm package of the widget, built and installed into an empty project.

tests/clients/packages/pages has a page without a framework, one of React and one of Vue.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Browser, expect

from broker.infrastructure.runtime.server import Site, serve_sites
from tests.support.clients import PhoneClient
from tests.support.environment import ROOT, free_port, need
from tests.support.packages import FOLDER, Project
from tests.support.pages import WAIT_MS, open_page, scene_on, shows
from tests.support.waiting import eventually
from tests.support.widget_pages import Serve, log_in

PAGES = ["plain", "react", "vue"]
DOCS = (ROOT / "docs/react-vue.md").read_text()

TRIAL = """\
import { ScanLogin, type ScanLoginToken } from "@scan-login/widget/react";
declare function signIn(token: ScanLoginToken): void;
export const trial = (
EXAMPLE);
"""


def example(language: str) -> str:
    """Return the only example in `language` of docs/react-vue.md."""
    [text] = re.findall(rf"```{language}\n(.*?)```", DOCS, re.DOTALL)
    return str(text)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("widget"), "widget")
    for name in ("tsconfig.json", "vite.config.js"):
        shutil.copy(FOLDER / name, project.root)
    shutil.copytree(FOLDER / "pages", project.root / "pages")
    for kind in ("tsx", "vue"):
        (project.root / "pages" / f"example.{kind}").write_text(example(kind))
    (project.root / "pages/trial.tsx").write_text(TRIAL.replace("EXAMPLE", example("jsx")))
    return project


@pytest.fixture(scope="module")
def built(project: Project) -> Path:
    """The folder of the built pages."""
    project.tool("vite/bin/vite.js", "build", "--logLevel", "error")
    return project.root / "built"


@pytest.mark.parametrize("name", PAGES)
async def test_built_page_signs_in_after_a_rejection(
    chromium: Browser, serve: Serve, built: Path, name: str
) -> None:
    served = await serve((built / f"{name}.html").read_text(), files=built)
    served.answer[0] = 500
    page = await open_page(chromium, served.url)
    await log_in(page, served)
    await shows(page, "rejected")

    served.answer[0] = 204
    await page.get_by_role("button", name="Try again").click()
    await log_in(page, served)

    await shows(page, "done")
    await expect(page.locator("h1")).to_have_text("pretend:alice", timeout=WAIT_MS)
    assert len(served.tokens) == 2


@pytest.mark.parametrize("name", PAGES)
async def test_removed_widget_leaves_no_login(
    chromium: Browser, serve: Serve, built: Path, name: str
) -> None:
    served = await serve((built / f"{name}.html").read_text(), files=built)
    page = await open_page(chromium, served.url)
    scene = await scene_on(page)

    await page.locator("#leave").click()

    await expect(page.locator("scan-login")).to_have_count(0, timeout=WAIT_MS)
    async with PhoneClient(served.broker.url) as phone:

        async def is_unknown() -> bool:
            answer = await phone.post("scan", {"scene": scene})
            return bool(answer.body.get("error") == "unknown_scene")

        await eventually(is_unknown)


def test_types_fit_strict_pages(project: Project) -> None:
    project.tool("vue-tsc/bin/vue-tsc.js")


@asynccontextmanager
async def running_vite(folder: Path) -> AsyncIterator[str]:
    """Run the development server of Vite in `folder`; yields its URL."""
    port = free_port()
    script = str(FOLDER / "node_modules/vite/bin/vite.js")
    process = await asyncio.create_subprocess_exec(
        *(need("node"), script, "--port", str(port)), cwd=folder, stdout=asyncio.subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"

    async def answers() -> bool:  # Vite first listens on the port to see whether it is free
        try:
            async with aiohttp.request("GET", url):
                return True
        except aiohttp.ClientError:
            return False

    try:
        await eventually(answers)
        yield url
    finally:
        process.terminate()
        await process.wait()


async def test_documented_proxy_passes_the_origin(project: Project) -> None:
    """A backend that checks the Origin accepts the requests of a page of Vite."""

    async def echo_origin(request: web.Request) -> web.Response:
        return web.Response(text=request.headers["Origin"])

    folder, port = project.root / "proxied", free_port()
    folder.mkdir()
    (folder / "vite.config.js").write_text(example("js").replace("8081", str(port)))
    backend = web.Application()
    backend.add_routes([web.post("/session", echo_origin), web.get("/account", echo_origin)])

    async with (
        serve_sites([Site("backend", backend, "127.0.0.1", port, "PORT")]),
        running_vite(folder) as url,
        aiohttp.ClientSession(url, headers={"Origin": url}) as http,
    ):
        answers = [await http.post("/session"), await http.get("/account")]
        origins = [await answer.text() for answer in answers]

    assert origins == [url, url]


def test_import_on_a_server_renders_the_element(project: Project) -> None:
    output = project.node("""
        import "@scan-login/widget";
        import { ScanLogin as ReactScanLogin } from "@scan-login/widget/react";
        import { ScanLogin as VueScanLogin } from "@scan-login/widget/vue";
        import { createElement } from "react";
        import { renderToString } from "react-dom/server";
        import { createSSRApp } from "vue";
        import * as vue from "vue/server-renderer";

        const properties = { broker: "/b", app: "shop", refreshEvery: 60, onLogin() {} };
        console.log(renderToString(createElement(ReactScanLogin, properties, "Unavailable.")));
        console.log(await vue.renderToString(createSSRApp(VueScanLogin, properties)));
    """)

    element = '<scan-login broker="/b" app="shop" refresh_every="60">'
    assert output.splitlines() == [f"{element}Unavailable.</scan-login>", f"{element}</scan-login>"]


async def test_package_loads_in_a_requirejs_page(
    chromium: Browser, serve: Serve, project: Project
) -> None:
    files = project.package("@scan-login/widget")
    shutil.copy(FOLDER / "node_modules/requirejs/require.js", files)
    served = await serve(
        "<script src='require.js'></script><scan-login broker='{broker}'></scan-login>"
        "<script>require(['scan-login'], () => {"
        " document.querySelector('scan-login').onlogin = () => {} })</script>",
        files=files,
    )
    page = await open_page(chromium, served.url)

    await log_in(page, served)

    await shows(page, "done")
