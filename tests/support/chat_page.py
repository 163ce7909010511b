"""The chat page of the example site in Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Locator, Page, expect

from tests.support.builders import FixedDirectory, StartBroker
from tests.support.logins import token_of
from tests.support.pages import Stage, open_page, staged

CHAT: dict[str, Any] = {
    "chat_rooms": "open",
    "chat_moderators": "pretend:mod",
    "chat_says_per_second": 100,
}
"""The settings of a broker."""

UNAVAILABLE_ADMISSION: dict[str, Any] = {"chat_rooms": "https://site.example/admit"}
"""Settings of a broker that cannot ask who may join: it has no webhook secret."""


@asynccontextmanager
async def chat_stage(
    start_broker: StartBroker, register: FixedDirectory | None = None, **settings: Any
) -> AsyncIterator[Stage]:
    async with staged(start_broker, register=register, **CHAT | settings) as stage:
        yield stage


async def open_chat(chromium: Browser, stage: Stage, name: str, **context: object) -> Page:
    """Sign a new browser in, and open its chat. The broker may refuse it."""
    page = await open_page(chromium, "about:blank", **context)
    answer = await page.request.post(
        f"{stage.site}/session",
        data={"access_token": await token_of(stage.broker, name)},
        headers={"Origin": stage.site},
    )
    assert answer.ok
    await page.goto(f"{stage.site}/chat")
    return page


async def chat_page(chromium: Browser, stage: Stage, name: str, **context: object) -> Page:
    """Sign a new browser in, open its chat, and wait until it has joined the room."""
    page = await open_chat(chromium, stage, name, **context)
    await expect(member(page, name)).to_be_attached()
    return page


def member(page: Page, name: str) -> Locator:
    return page.locator("#members li", has_text=f"pretend:{name}")


def texts(page: Page) -> Locator:
    return page.locator("#messages .text")


async def say(page: Page, text: str) -> None:
    await page.locator("#text").fill(text)
    await page.locator("#text").press("Enter")
