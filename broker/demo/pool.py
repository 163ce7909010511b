"""The demo's pool: codes that are drawn before anybody comes, and shown while WeChat is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from broker.app import pictures_of, provider_of, records_of
from broker.errors import Unavailable
from broker.pool.filling import Filling, Progress, reason_of
from broker.records import Code
from broker.settings import Settings
from broker.state import Code as Offered
from broker.state import Leases

APP = "pool"
"""The demo's app whose codes are the pool's; `default` has none there."""

COUNT = 100

LOOK = 1.0
"""Seconds between two looks at how many are free."""

WECHAT_OFF = """
  Switch WeChat off, and log in all the same; then on again:
  curl -X PUT '{0}/pretend/faults/{{getwxacodeunlimit,stable_token}}' -d '{{"fault": "503"}}'
  curl -X DELETE {0}/pretend/faults
"""


async def write_down(settings: Settings) -> None:
    """Put the app into the records of a broker that is yet to start."""
    records = records_of(settings, time.time)
    await records.open()
    try:
        fields = {"name": settings.app_name, "origins": settings.origins, "code_source": "pool"}
        await records.book.add(APP, fields)
    finally:
        await records.close()


async def fill(settings: Settings, leases: Leases) -> None:
    """Draw the codes, and open each for lease by the broker that serves."""

    async def offer(codes: Sequence[Code]) -> None:
        await leases.offer(APP, [_offered(code) for code in codes])

    records = records_of(settings, time.time)
    await records.open()
    try:
        async with provider_of(settings, records, APP) as provider:
            await Filling(
                provider=provider,
                codes=records.codes,
                pictures=pictures_of(settings),
                app=APP,
                count=COUNT,
                offer=offer,
                report=_tell,
            ).run()
        print(flush=True)
    except Unavailable as trouble:
        print(f"\n  The pool is not full: {reason_of(trouble)}", flush=True)
    finally:
        await records.close()


async def watch(leases: Leases) -> None:
    """Say how many codes are free, each time that it changes."""
    said = ""
    while True:
        with suppress(Unavailable):
            free, leased, resting = await leases.level(APP)
            level = f"{free} codes free, {leased} on screens, {resting} at rest"
            if level != said:
                said = level
                print(f"  Pool           {level}", flush=True)
        await asyncio.sleep(LOOK)


def _offered(code: Code) -> Offered:
    return Offered(number=code.number, drawing=code.drawing, scene=code.scene, picture=code.picture)


def _tell(progress: Progress) -> None:
    """One line that counts; what a filling waits for gets a line of its own."""
    print(f"\r  Drawing codes  {progress.ready} of {progress.wanted}", end="", flush=True)
    if progress.trouble:
        print(f"\n  waiting: {progress.trouble}", flush=True)
