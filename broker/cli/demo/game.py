"""The game of the demo: its app, whose backend is the example site."""

from __future__ import annotations

import time

from broker.apps.model import DEFAULT_APP
from broker.backends import open_records
from broker.infrastructure.settings import Settings
from web_demo.game.server import CALLBACK_PATH, GameOptions

GAME_APP = "game"


async def add_game(settings: Settings, site_url: str) -> GameOptions:
    """Add the app of the game to the records. Its callbacks go to the example site."""
    records = open_records(settings, time.time)
    await records.open()
    try:
        admin = records.app_admin
        fields = {
            "name": "Rock-paper-scissors",
            "phone_app": DEFAULT_APP,
            "tunnel_url": f"{site_url}{CALLBACK_PATH}",
        }
        await admin.add(GAME_APP, fields)
        return GameOptions(
            app=GAME_APP,
            secret=await admin.rotate_secret(GAME_APP),
            webhook_secret=await admin.rotate_webhook_secret(GAME_APP),
        )
    finally:
        await records.close()
