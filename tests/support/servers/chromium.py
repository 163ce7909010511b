"""The Chromium of a test process. Each test connects to it and opens separate contexts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from playwright.async_api import Browser, async_playwright

from tests.support.environment import free_port, need

QUIET = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


PROGRAM = "chromium-headless-shell"
"""Chromium without its windows. `chromium --headless` also starts processes for each window."""


@contextmanager
def running_chromium() -> Iterator[str]:
    """Start Chromium, which takes a second; yields the URL of its debugging protocol."""
    port = free_port()
    options = [*QUIET, f"--remote-debugging-port={port}"]
    with asyncio.Runner() as runner:
        playwright = runner.run(async_playwright().start())
        launch = playwright.chromium.launch(executable_path=need(PROGRAM), args=options)
        browser = runner.run(launch)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            runner.run(browser.close())
            runner.run(playwright.stop())


@asynccontextmanager
async def connected_chromium(url: str) -> AsyncIterator[Browser]:
    """Connect to a running Chromium. Its contexts are closed at the end."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(url)
        yield browser
        await browser.close()
