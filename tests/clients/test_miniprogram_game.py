"""The game page of the mini program. miniprogram/game.test.js has the tests."""

from __future__ import annotations

import asyncio

from playwright.async_api import Browser, expect

from tests.support.builders import StartBroker
from tests.support.game import game_stage
from tests.support.game_page import game_page, hand, shows_points, status
from tests.support.miniprogram import run_suite


async def test_game_suite_passes(chromium: Browser, start_broker: StartBroker) -> None:
    """The first test of the suite plays with the web page."""
    async with game_stage(start_broker) as stage:
        web = await game_page(chromium, stage, "web")
        await web.locator("#play").click()
        suite = asyncio.create_task(run_suite("game", BROKER=stage.broker.url, SITE=stage.site))
        await expect(hand(web, "scissors")).to_be_enabled(timeout=60_000)
        await hand(web, "scissors").click()
        await expect(status(web)).to_have_text("You win!")  # the phone leaves after its point
        await shows_points(web, 0, 1)
        await suite


async def test_tunnel_suite_passes() -> None:
    await run_suite("tunnel")
