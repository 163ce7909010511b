"""The game page of the example site in Chromium."""

from __future__ import annotations

from playwright.async_api import Browser, Locator, Page, expect

from tests.support.game import GameStage
from tests.support.logins import token_of
from tests.support.pages import open_page


async def game_page(chromium: Browser, stage: GameStage, name: str, **context: object) -> Page:
    """Sign a new browser in, and open its game."""
    page = await open_page(chromium, "about:blank", **context)
    answer = await page.request.post(
        f"{stage.site}/session",
        data={"access_token": await token_of(stage.broker, name)},
        headers={"Origin": stage.site},
    )
    assert answer.ok
    await page.goto(f"{stage.site}/game")
    await expect(page.locator("#own-name")).not_to_be_empty()
    return page


async def play(*pages: Page) -> None:
    """Begin a match."""
    for page in pages:
        await page.locator("#play").click()
    for page in pages:
        await expect(hand(page, "rock")).to_be_enabled()


def hand(page: Page, name: str) -> Locator:
    return page.locator(f"[data-hand={name}]")


def status(page: Page) -> Locator:
    return page.locator("#status")


async def shows_points(page: Page, own: int, other: int) -> None:
    await expect(page.locator("#own-points .won")).to_have_count(own)
    await expect(page.locator("#other-points .won")).to_have_count(other)
