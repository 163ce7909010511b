"""The game of the example site continues while instances fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.async_api import Browser, Page, expect

from broker.infrastructure.runtime.server import Site, serve_sites
from broker.settings import load_settings
from tests.chaos.world import Instance, running
from tests.support.app_admin import TOKEN
from tests.support.builders import RunningBroker
from tests.support.environment import free_port
from tests.support.game import PATIENT, GameStage, add_app
from tests.support.game_page import game_page, hand, play, shows_points
from tests.support.proxy import proxying
from tests.support.servers.redis import RedisServer
from web_demo.game.server import CALLBACK_PATH
from web_demo.site import build_site


class Table(NamedTuple):
    """Two instances, and two players whose tunnels are at one instance each."""

    first: Instance
    alice: Page
    bob: Page


@pytest.fixture
async def table(
    chromium: Browser, redis: RedisServer, tmp_path: Path, key_file: Path
) -> AsyncIterator[Table]:
    site_port, admin_port = free_port(), free_port()
    site_url = f"http://127.0.0.1:{site_port}"
    async with proxying() as proxy:
        public_url = f"http://127.0.0.1:{proxy.port}"
        variables = {
            "SCAN_LOGIN_PUBLIC_URL": public_url,
            "SCAN_LOGIN_ORIGINS": site_url,
            "SCAN_LOGIN_ADMIN_TOKEN": TOKEN,
            "SCAN_LOGIN_KEY_FILE": str(key_file),
            "SCAN_LOGIN_WEBHOOKS_PRIVATE": "true",
        }
        first, second = (
            Instance(
                name,
                folder=tmp_path,
                state_url=redis.url,
                variables={**variables, "SCAN_LOGIN_ADMIN_PORT": str(port)},
            )
            for name, port in (("first", admin_port), ("second", 0))
        )
        async with running([first, second]):
            proxy.lead_to(first.port)
            url = f"http://127.0.0.1:{admin_port}"
            options = await add_app(url, site_url + CALLBACK_PATH, PATIENT)
            site = build_site(broker_url=public_url, game=options)
            async with serve_sites([Site("site", site, "127.0.0.1", site_port, "PORT")]):
                broker = RunningBroker(first.url, load_settings(), first.url)
                stage = GameStage(site_url, broker, proxy, options)
                alice = await game_page(chromium, stage, "alice")
                proxy.lead_to(second.port)
                yield Table(first, alice, await game_page(chromium, stage, "bob"))


async def test_game_continues_after_kill_of_an_instance(table: Table) -> None:
    first, alice, bob = table
    await play(alice, bob)
    await hand(alice, "rock").click()
    await expect(bob.locator("#other-hand")).to_have_text("✓")

    async with alice.expect_websocket():  # the page resumes its tunnel
        first.kill()

    await hand(bob, "paper").click()
    await shows_points(alice, 0, 1)
    await hand(alice, "paper").click()
    await hand(bob, "rock").click()
    await shows_points(alice, 1, 1)
    await shows_points(bob, 1, 1)
