"""The game page of the example site in Chromium."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from mp_stub.phone import Phone
from tests.support.builders import StartBroker
from tests.support.environment import ROOT
from tests.support.game import game_stage
from tests.support.game_page import game_page, hand, play, shows_points, status
from tests.support.pages import open_page, scene_on


async def test_people_sign_in_by_scan_and_play(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with game_stage(start_broker) as stage:
        alice = await open_page(chromium, f"{stage.site}/game")
        async with Phone(broker=stage.broker.url, name="alice") as phone:
            await phone.confirm((await phone.scan(await scene_on(alice)))["login_id"])
        bob = await game_page(chromium, stage, "bob")
        await play(alice, bob)

        for points in (1, 2, 3):
            await hand(alice, "rock").click()
            await expect(status(alice)).to_have_text("Waiting for bob…")
            await expect(status(bob)).to_have_text("alice has chosen. Your turn!")
            await expect(bob.locator("#other-hand")).to_have_text("✓")
            await hand(bob, "scissors").click()
            await shows_points(alice, points, 0)
            await shows_points(bob, 0, points)
            if points < 3:
                await expect(hand(alice, "rock")).to_be_enabled()
                await expect(hand(bob, "rock")).to_be_enabled()

        await expect(status(alice)).to_have_text("You win!")
        await expect(status(bob)).to_have_text("alice wins.")


SHARED = {"tunnel.js": "scan-login", "client.js": "pages/game", "words.js": "pages/game"}


@pytest.mark.parametrize("name", SHARED)
def test_page_and_mini_program_have_one_game_client(name: str) -> None:
    copy = ROOT / "mp_stub/miniprogram" / SHARED[name] / name

    assert (ROOT / "web_demo/game" / name).read_text() == copy.read_text()
