"""The Chromium of a test process. Each test opens its own contexts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

from tests.support.environment import need

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


@asynccontextmanager
async def running_chromium() -> AsyncIterator[Browser]:
    """Start Chromium, which takes a second."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=need(PROGRAM), args=QUIET)
        yield browser
        await browser.close()
