"""The game page of the example site in Chromium."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from broker.identity.model import Identity, UserProfile
from mp_stub.phone import Phone
from tests.support.builders import FixedDirectory, StartBroker
from tests.support.environment import ROOT
from tests.support.game import game_stage
from tests.support.game_page import game_page, hand, play, shows_points, status
from tests.support.pages import (
    NARROW,
    SCHEMES_BY_LANGUAGE,
    keep,
    open_page,
    scene_on,
    serious_findings,
)

MARKUP = "<img src=x onerror=alert(1)>"


class MarkupDirectory(FixedDirectory):
    """A directory that knows everyone. Subject and name are markup."""

    async def find(self, identity: Identity) -> UserProfile:
        return UserProfile(subject=f"pretend:{MARKUP}{identity.id}", name=f"{MARKUP}{identity.id}")


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


async def test_reload_continues_the_round(chromium: Browser, start_broker: StartBroker) -> None:
    """The tunnel is resumed: the page requests no other one."""
    async with game_stage(start_broker) as stage:
        alice = await game_page(chromium, stage, "alice")
        bob = await game_page(chromium, stage, "bob")
        await play(alice, bob)
        await hand(alice, "rock").click()
        await expect(bob.locator("#other-hand")).to_have_text("✓")
        requests: list[str] = []
        alice.on("request", lambda request: requests.append(request.url))

        await alice.reload()

        await expect(alice.locator("#own-hand")).to_have_text("✊")
        await expect(hand(alice, "paper")).to_be_disabled()
        await hand(bob, "paper").click()
        await shows_points(alice, 0, 1)
        assert f"{stage.site}/game/tunnel" not in requests


async def test_lost_connection_is_resumed(chromium: Browser, start_broker: StartBroker) -> None:
    async with game_stage(start_broker) as stage:
        alice = await game_page(chromium, stage, "alice")
        bob = await game_page(chromium, stage, "bob")
        await play(alice, bob)

        stage.proxy.cut()
        await expect(status(alice)).to_have_text("Connection lost, reconnecting…")
        await keep(alice, "game-offline")
        stage.proxy.restore()

        await hand(alice, "rock").click()
        await hand(bob, "paper").click()
        await shows_points(alice, 0, 1)


async def test_opponent_is_away_and_returns(chromium: Browser, start_broker: StartBroker) -> None:
    async with game_stage(start_broker) as stage:
        alice = await game_page(chromium, stage, "alice")
        bob = await game_page(chromium, stage, "bob")
        await play(alice, bob)

        await bob.goto("about:blank")
        await expect(alice.locator("#other-state")).to_have_text("away")
        await keep(alice, "game-away")
        await bob.goto(f"{stage.site}/game")

        await expect(alice.locator("#other-state")).to_be_hidden()
        await expect(hand(bob, "rock")).to_be_enabled()


async def test_sign_out_ends_the_match(chromium: Browser, start_broker: StartBroker) -> None:
    async with game_stage(start_broker) as stage:
        alice = await game_page(chromium, stage, "alice")
        bob = await game_page(chromium, stage, "bob")
        await play(alice, bob)

        await bob.locator("#sign-out button").click()

        await expect(status(alice)).to_have_text("You win!")
        await expect(alice.locator("#hint")).to_have_text("bob has left.")
        await expect(alice.locator("#again")).to_be_hidden()
        await alice.locator("#next").click()
        await expect(status(alice)).to_have_text("Waiting for an opponent…")


async def test_second_window_takes_the_seat(chromium: Browser, start_broker: StartBroker) -> None:
    async with game_stage(start_broker) as stage:
        alice = await game_page(chromium, stage, "alice")
        bob = await game_page(chromium, stage, "bob")
        await play(alice, bob)

        second = await alice.context.new_page()
        await second.goto(f"{stage.site}/game")

        await expect(hand(second, "rock")).to_be_enabled()
        await expect(status(alice)).to_have_text("You are playing in another window.")
        await alice.locator("#here").click()
        await expect(hand(alice, "rock")).to_be_enabled()
        await expect(status(second)).to_have_text("You are playing in another window.")
        await second.context.clear_cookies()
        await second.locator("#here").click()
        await expect(status(second)).to_have_text("Please sign in again.")
        await second.locator("#signIn").click()
        await expect(second.locator("scan-login")).to_be_visible()


async def test_markup_in_a_name_is_shown_as_text(
    chromium: Browser, start_broker: StartBroker
) -> None:
    async with game_stage(start_broker, register=MarkupDirectory()) as stage:
        alice = await game_page(chromium, stage, "alice")
        bob = await game_page(chromium, stage, "bob")
        alerts: list[str] = []
        alice.on("dialog", lambda dialog: alerts.append(dialog.message))

        await play(alice, bob)
        await hand(bob, "rock").click()

        await expect(alice.locator("#own-name")).to_have_text(f"{MARKUP}alice")
        await expect(alice.locator("#other-name")).to_have_text(f"{MARKUP}bob")
        await expect(status(alice)).to_have_text(f"{MARKUP}bob has chosen. Your turn!")
        assert await alice.locator("#game img, #game script").count() == 0
        assert alerts == []


async def test_game_works_by_keyboard(chromium: Browser, start_broker: StartBroker) -> None:
    async with game_stage(start_broker) as stage:
        alice = await game_page(chromium, stage, "alice", viewport=NARROW)
        bob = await game_page(chromium, stage, "bob")
        for page in (alice, bob):
            await page.locator("#play").press("Enter")
            await expect(status(page)).not_to_have_text("Ready?")
        await expect(hand(alice, "rock")).to_be_enabled()

        await alice.keyboard.press("3")
        await hand(bob, "rock").press("Enter")

        await shows_points(alice, 1, 0)


async def test_game_fits_every_screen_and_is_accessible(
    chromium: Browser, start_broker: StartBroker
) -> None:
    sizes = {"phone": (320, 640), "tablet": (768, 900), "wide": (1280, 800)}
    async with game_stage(start_broker) as stage:
        alice = await game_page(chromium, stage, "alice")
        bob = await game_page(chromium, stage, "b" * 60)
        await play(alice, bob)

        for language, schemes in SCHEMES_BY_LANGUAGE.items():
            await alice.goto(f"{stage.site}/game?lang={language}")
            await expect(hand(alice, "rock")).to_be_enabled()
            for (size, (width, height)), scheme in zip(sizes.items(), schemes, strict=True):
                await alice.set_viewport_size({"width": width, "height": height})
                await alice.emulate_media(color_scheme=scheme)
                await keep(alice, f"game-{language}-{size}-{scheme}")
                assert await serious_findings(alice) == [], (language, size, scheme)
                assert not await alice.evaluate(
                    "document.documentElement.scrollWidth > document.documentElement.clientWidth"
                )


SHARED = {"tunnel.js": "scan-login", "client.js": "pages/game", "words.js": "pages/game"}


@pytest.mark.parametrize("name", SHARED)
def test_page_and_mini_program_have_one_game_client(name: str) -> None:
    copy = ROOT / "mp_stub/miniprogram" / SHARED[name] / name

    assert (ROOT / "web_demo/game" / name).read_text() == copy.read_text()
