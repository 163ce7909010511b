"""What the demo says of its pool: how it is filled, how full it is, how WeChat is switched off."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from broker.apps.model import DEFAULT_APP
from broker.errors import Unavailable
from broker.infrastructure.observability.logging import announce
from broker.pool.ports import CodeLeases

POOL_COUNT = 100

POOL_SETTINGS: Mapping[str, Any] = {
    "code_source": "pool",
    "pool_size": POOL_COUNT,
    "pool_max": POOL_COUNT,
    "pool_per_minute": 4500,
}

POLL_INTERVAL = 0.2
"""Seconds between two looks."""

WECHAT_OUTAGE_HINT = """
  Switch WeChat off, and log in all the same; then on again:
  curl -X PUT '{0}/pretend/faults/{{getwxacodeunlimit,stable_token}}' -d '{{"fault": "503"}}'
  curl -X DELETE {0}/pretend/faults
"""


async def wait_until_filled(leases: CodeLeases, wechat_url: str) -> None:
    """Count the codes that the broker draws, in one line, until there are enough."""
    ready = 0
    while ready < POOL_COUNT:
        await asyncio.sleep(POLL_INTERVAL)
        with suppress(Unavailable):
            ready = (await leases.level(DEFAULT_APP)).total
        announce(f"\r  Drawing codes  {ready} of {POOL_COUNT}", end="")
    announce(f"\n{WECHAT_OUTAGE_HINT.format(wechat_url)}")


async def watch(leases: CodeLeases) -> None:
    """Say how many codes are free, each time that it changes."""
    said = ""
    while True:
        with suppress(Unavailable):
            free, leased, resting = await leases.level(DEFAULT_APP)
            level = f"{free} codes free, {leased} on screens, {resting} at rest"
            if level != said:
                said = level
                announce(f"  Pool           {level}")
        await asyncio.sleep(POLL_INTERVAL)
