"""The pool of the demo: its settings, and what the demo prints about it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import suppress

from broker.apps.model import DEFAULT_APP
from broker.errors import Unavailable
from broker.infrastructure.observability.logging import announce
from broker.pool.ports import CodeLeases

POOL_COUNT = 100

POOL_SETTINGS: Mapping[str, object] = {
    "code_source": "pool",
    "pool_size": POOL_COUNT,
    "pool_max": POOL_COUNT,
    "pool_per_minute": 4500,
}

POLL_INTERVAL = 0.2
"""Seconds between two requests for the pool's level."""

WECHAT_OUTAGE_HINT = """
  Switch the WeChat stub off, log in with a code of the pool, and switch it on again:
  curl -X PUT '{0}/pretend/faults/{{getwxacodeunlimit,stable_token}}' -d '{{"fault": "503"}}'
  curl -X DELETE {0}/pretend/faults
"""


async def wait_until_filled(leases: CodeLeases, wechat_url: str) -> None:
    """Print the number of drawn codes until the pool is full.

    On a terminal one line changes; elsewhere only the last number is printed.
    """
    ready = 0
    while ready < POOL_COUNT:
        await asyncio.sleep(POLL_INTERVAL)
        with suppress(Unavailable):
            ready = (await leases.level(DEFAULT_APP)).total
        if sys.stdout.isatty():
            announce(f"\r  Drawing codes  {ready} of {POOL_COUNT}", end="")
        elif ready == POOL_COUNT:
            announce(f"  Drawing codes  {ready} of {POOL_COUNT}", end="")
    announce(f"\n{WECHAT_OUTAGE_HINT.format(wechat_url)}")


async def watch(leases: CodeLeases) -> None:
    """Print the pool's level each time it changes."""
    last_level = ""
    while True:
        with suppress(Unavailable):
            free, leased, resting = await leases.level(DEFAULT_APP)
            level = f"{free} codes free, {leased} on screens, {resting} in cooldown"
            if level != last_level:
                last_level = level
                announce(f"  Pool           {level}")
        await asyncio.sleep(POLL_INTERVAL)
