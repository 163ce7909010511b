"""The work of `scan-login pool` on the records and on the brokers' state.

records: they are open.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence

from broker.backends import open_apps, open_pictures
from broker.cli.openers import open_app_provider, open_code_leases
from broker.cli.progress import progress_reporter
from broker.infrastructure.settings import Settings
from broker.pool.filler import PoolFiller
from broker.pool.model import CodeCounts, CodeRecord, PoolLevel
from broker.pool.retirement import delete_retired_pictures, retire_codes
from broker.pool.state_sync import offer_to_state
from broker.pool.verifier import CodeDefect, verify_codes
from broker.records.store import Records

STATE_UNREACHABLE_NOTE = (
    "this command does not reach the brokers' state: running brokers apply the change within "
    "seconds"
)


async def fill(settings: Settings, app: str, count: int, rate: int, records: Records) -> str:
    """Draw until `count` codes are ready or a signal arrives; return the result as text."""
    key = await _key(settings, records, app)
    async with (
        open_app_provider(settings, records, app) as provider,
        open_code_leases(settings) as leases,
    ):
        with progress_reporter() as report:
            filler = PoolFiller(
                provider=provider,
                codes=records.code_store,
                pictures=open_pictures(settings),
                app=key,
                count=count,
                per_minute=rate,
                offer=offer_to_state(leases, key) if leases else None,
                report=report,
            )
            _stop_on_signal(filler)
            drawn = await filler.run()
    if leases is None:
        print(STATE_UNREACHABLE_NOTE, file=sys.stderr)
    missing = len(await records.code_store.missing(key, count))
    result = f"{drawn} codes were drawn; {count - missing} of {count} are ready"
    return f"{result}; run the same command to continue" if missing else result


def _stop_on_signal(filler: PoolFiller) -> None:
    """The first signal stops the filler after the draws in progress, the next one at once."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        filler.stop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


async def read_status(
    settings: Settings, records: Records
) -> list[tuple[CodeCounts, PoolLevel | None]]:
    """Return counts with the app's id, or with its key if the app was removed."""
    found = await records.code_store.counts()
    ids = {app.app.key: app.app.id for app in await records.app_admin.list()}
    async with open_code_leases(settings) as leases:
        return [
            (
                counts._replace(app=ids.get(counts.app, counts.app)),
                await leases.level(counts.app) if leases else None,
            )
            for counts in found
        ]


async def find_ready(
    settings: Settings, app: str, is_chosen: Callable[[CodeRecord], bool], records: Records
) -> list[CodeRecord]:
    key = await _key(settings, records, app)
    return [
        code async for batch in records.code_store.ready(key) for code in batch if is_chosen(code)
    ]


async def retire(
    settings: Settings, app: str, chosen: Sequence[CodeRecord], records: Records
) -> None:
    codes, key = records.code_store, await _key(settings, records, app)
    async with open_code_leases(settings) as leases:
        await retire_codes(key, chosen, codes=codes, withdraw=leases.withdraw if leases else None)
        if leases is None:
            print(STATE_UNREACHABLE_NOTE, file=sys.stderr)
    pooled = {pooled_app.key for pooled_app in open_apps(settings, records).with_pool()}
    if key not in pooled:  # else screens may still show them; brokers remove them later
        await delete_retired_pictures(key, codes=codes, pictures=open_pictures(settings))


async def verify(settings: Settings, app: str, records: Records) -> list[CodeDefect]:
    async with open_app_provider(settings, records, app) as provider:
        return await verify_codes(
            codes=records.code_store,
            pictures=open_pictures(settings),
            app=await _key(settings, records, app),
            draw=provider.draw if provider.name == "pretend" else None,
        )


async def _key(settings: Settings, records: Records, app: str) -> str:
    """Return the key of an app.  The key of a removed app is what `pool status` prints."""
    found = open_apps(settings, records).get(app)
    return app if found is None else found.key
