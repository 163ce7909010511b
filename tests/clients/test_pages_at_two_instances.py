"""Pages of two people whose WebSockets are at two instances over Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, expect

from broker.infrastructure.runtime.settings import ServerSettings
from tests.support.builders import StartBroker
from tests.support.chat_page import CHAT, chat_page, chat_stage, member, say, texts
from tests.support.game import GameStage, game_stage
from tests.support.game_page import game_page, hand, play, shows_points, status
from tests.support.pages import Stage
from tests.support.servers.redis import RedisServer, redis_program, running


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running(redis_program()) as server:
        yield server


async def lead_to_second_instance(
    start_broker: StartBroker, stage: Stage | GameStage, **settings: object
) -> None:
    """Start another instance. All later connections of browsers and of the site are to it."""
    public_url = stage.broker.settings[ServerSettings].public_url
    second = await start_broker(public_url=public_url, origins=stage.site, **settings)
    stage.proxy.lead_to(second.settings[ServerSettings].port)


async def test_chat_pages_at_two_instances_talk(
    chromium: Browser, start_broker: StartBroker, redis: RedisServer
) -> None:
    async with chat_stage(start_broker, state_url=redis.url) as stage:
        alice = await chat_page(chromium, stage, "alice")
        await lead_to_second_instance(start_broker, stage, state_url=redis.url, **CHAT)
        bob = await chat_page(chromium, stage, "bob")

        await expect(member(alice, "bob").locator(".dot.on")).to_be_visible()
        await say(alice, "hello bob")
        await expect(texts(bob)).to_have_text(["hello bob"])
        await say(bob, "hello alice")

        await expect(texts(alice)).to_have_text(["hello bob", "hello alice"])
        await bob.goto("about:blank")
        await expect(member(alice, "bob").locator(".dot.off")).to_be_visible()


async def test_game_pages_at_two_instances_play(
    chromium: Browser, start_broker: StartBroker, redis: RedisServer
) -> None:
    async with game_stage(start_broker, state_url=redis.url) as stage:
        alice = await game_page(chromium, stage, "alice")
        await lead_to_second_instance(
            start_broker, stage, state_url=redis.url, webhooks_private=True
        )
        bob = await game_page(chromium, stage, "bob")
        await play(alice, bob)

        await hand(alice, "rock").click()
        await expect(status(bob)).to_have_text("alice has chosen. Your turn!")
        await hand(bob, "paper").click()

        await shows_points(alice, 0, 1)
        await shows_points(bob, 1, 0)
        await bob.goto("about:blank")
        await expect(alice.locator("#other-state")).to_have_text("away")
