"""Checks of the providers of all apps, and of their pools."""

from __future__ import annotations

import asyncio

from broker.apps.model import DEFAULT_APP, App
from broker.backends import default_app, open_apps, open_provider_registry
from broker.cli.checks.model import Failed, Installation, Skipped, Warned
from broker.cli.openers import draw_test_code
from broker.identity.errors import ProviderUnavailable
from broker.identity.registry import ProviderRegistry

NO_RECORDS = "needs the check records: seal keys"


async def check_draw(installation: Installation) -> str:
    """Draw a code of the app default."""
    records = installation.records or installation.unopened_records
    try:
        name = await draw_test_code(installation.settings, records, DEFAULT_APP)
    except ProviderUnavailable as error:
        raise Failed(error.reason, error.advice) from None
    return f"the provider {name} draws codes"


async def check_apps(installation: Installation) -> str:
    """Draw a code with each account that the app default does not use."""
    settings, records = installation.settings, installation.records
    apps = [] if records is None else [one.app for one in await records.app_admin.list()]
    if records is None:
        raise Skipped(NO_RECORDS)
    if not apps:
        raise Skipped("the records have no apps")
    providers = open_provider_registry(settings, open_apps(settings, records), records)
    try:
        default = default_app(settings).provider
        faults = await asyncio.gather(*(_draw_fault(providers, app, default) for app in apps))
    finally:
        await providers.close()
    found = {app.id: fault for app, fault in zip(apps, faults, strict=True) if fault}
    if found:
        raise Failed(
            "; ".join(f"{app_id}: {fault.reason}" for app_id, fault in found.items()),
            "; ".join(dict.fromkeys(fault.advice for fault in found.values() if fault.advice)),
        )
    return f"{len(apps)} apps have a provider that draws codes"


async def _draw_fault(
    providers: ProviderRegistry, app: App, default: str
) -> ProviderUnavailable | None:
    """Draw a code for the app, unless `check_draw` has drawn one with the same account.

    default: the provider of the app default.
    """
    try:
        provider = await providers.get(app)
        if app.provider_app_id or app.provider != default:
            await provider.draw("a" * provider.scene_max)
    except ProviderUnavailable as error:
        return error
    return None


async def check_pools(installation: Installation) -> str:
    records = installation.records
    if records is None:
        raise Skipped(NO_RECORDS)
    pools = open_apps(installation.settings, records).with_pool()
    if not pools:
        raise Skipped("no app has a pool")
    empty = [app.id for app in pools if not await records.code_store.count(app.key)]
    if empty:
        raise Warned(f"each login draws a code, because the pool has none: {', '.join(empty)}")
    return f"{len(pools)} pools have codes"
