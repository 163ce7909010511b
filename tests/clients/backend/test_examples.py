"""The example sites for backends: each one signs a person in with the installed package."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.support.client_examples import EXAMPLES, running_example
from tests.support.clients import PhoneClient
from tests.support.demo import demo
from tests.support.environment import free_port
from tests.support.logins import token_from
from tests.support.pages import WAIT_MS, open_page, scene_on


class Example(NamedTuple):
    site: str
    broker: str


def folder_of(path: Path) -> str:
    return "node_folder" if path.suffix == ".js" else "python_folder"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sites(request: pytest.FixtureRequest) -> AsyncIterator[dict[str, Example]]:
    """All examples, and their broker."""
    ports = {name: str(free_port()) for name in EXAMPLES}
    origins = ",".join(f"http://127.0.0.1:{port}" for port in ports.values())
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(demo(SCAN_LOGIN_ORIGINS=origins))
        await broker.line("Broker")
        url = f"http://127.0.0.1:{broker.ports['PORT']}"
        starting = [
            stack.enter_async_context(
                running_example(
                    path,
                    request.getfixturevalue(folder_of(path)),
                    {"8000": broker.ports["PORT"], "8081": ports[name]},
                )
            )
            for name, path in EXAMPLES.items()
        ]
        found = await asyncio.gather(*starting)
        yield {name: Example(site, url) for name, site in zip(EXAMPLES, found, strict=True)}


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest, sites: dict[str, Example]) -> Example:
    return sites[request.param]


@asynccontextmanager
async def visitor(example: Example) -> AsyncIterator[aiohttp.ClientSession]:
    """A browser at the site."""
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of an address that is a number
    async with aiohttp.ClientSession(
        example.site, cookie_jar=jar, headers={"Origin": example.site}
    ) as http:
        yield http


async def page_of(http: aiohttp.ClientSession) -> str:
    async with http.get("/") as page:
        return await page.text()


async def sign_in(http: aiohttp.ClientSession, token: object, **headers: str) -> int:
    body = {"access_token": token, "token_type": "Bearer"}
    async with http.post("/session", json=body, headers=headers) as answer:
        return answer.status


async def test_example_completes_a_login(example: Example) -> None:
    async with visitor(example) as http:
        assert "<scan-login" in await page_of(http)

        assert await sign_in(http, await token_from(example.broker)) == 204

        assert "Signed in as pretend:alice" in await page_of(http)
        [cookie, *_] = http.cookie_jar
        assert (cookie["httponly"], cookie["samesite"].lower()) == (True, "lax")


async def test_example_escapes_the_user(example: Example) -> None:
    async with visitor(example) as http:
        await sign_in(http, await token_from(example.broker, "<b>&"))

        assert "<b>" not in await page_of(http)


async def test_example_accepts_a_token_once(example: Example) -> None:
    token = await token_from(example.broker)
    async with visitor(example) as first, visitor(example) as second:
        assert [await sign_in(http, token) for http in (first, second)] == [204, 401]

        assert "<scan-login" in await page_of(second)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", ""])
async def test_example_refuses_another_origin(example: Example, origin: str) -> None:
    async with visitor(example) as http:
        assert await sign_in(http, await token_from(example.broker), Origin=origin) == 403


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"access_token": 1}', b"[" * 50_000])
async def test_example_refuses_a_malformed_body(example: Example, body: bytes) -> None:
    async with visitor(example) as http, http.post("/session", data=body) as answer:
        assert answer.status in (400, 401)


async def test_example_refuses_a_large_body(example: Example) -> None:
    token = json.dumps({"access_token": await token_from(example.broker)})
    body = io.BytesIO(token.encode() + b" " * 3_000_000)
    async with visitor(example) as http:
        with suppress(aiohttp.ClientConnectionError):  # closed before the end of the body
            async with http.post("/session", data=body) as answer:
                assert answer.status in (400, 401, 413)

        assert "<scan-login" in await page_of(http)


async def test_example_signs_out(example: Example) -> None:
    async with visitor(example) as http:
        await sign_in(http, await token_from(example.broker))

        async with http.post("/sign-out") as page:
            assert "<scan-login" in await page.text()

        assert "<scan-login" in await page_of(http)


async def test_example_page_signs_in(chromium: Browser, sites: dict[str, Example]) -> None:
    site, broker = sites["http-site"]
    page = await open_page(chromium, site)
    scene = await scene_on(page)

    async with PhoneClient(broker) as phone:
        scanned = await phone.post("scan", {"scene": scene})
        await phone.post("confirm", {"login_id": scanned.body["login_id"]})

    heading = page.locator("h1")
    await expect(heading).to_have_text("Signed in as pretend:alice", timeout=WAIT_MS)
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.locator("scan-login")).to_be_visible(timeout=WAIT_MS)
