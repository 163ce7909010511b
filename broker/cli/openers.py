"""Opens what a command needs, and closes it at the end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

from broker.apps.errors import UnknownApp
from broker.backends import (
    check_records,
    open_apps,
    open_bus_of,
    open_files,
    open_login_policy,
    open_pictures,
    open_provider_registry,
    open_state_and_bus,
    open_state_of,
)
from broker.errors import StartupError
from broker.identity.ports import Provider
from broker.infrastructure.crypto.sealing import SealKeyFile
from broker.infrastructure.settings import Settings
from broker.pool.ports import CodeLeases
from broker.records.settings import RecordsSettings
from broker.records.store import Records
from broker.state.settings import StateSettings
from broker.tokens.keys import SigningKeyFile
from broker.tokens.settings import TokenSettings


@asynccontextmanager
async def open_code_leases(settings: Settings) -> AsyncIterator[CodeLeases | None]:
    """The leases of the running brokers, or None if this process cannot reach their state."""
    state, bus = open_state_and_bus(settings, None)
    is_shared = urlsplit(settings[StateSettings].state_url).scheme != "memory"
    try:
        if is_shared:
            await state.open()
        is_reached = is_shared and state.unavailable_reason() is None
        yield state.code_leases if is_reached else None
    finally:
        await state.close()
        await bus.close()


@asynccontextmanager
async def open_app_provider(
    settings: Settings, records: Records, app_id: str
) -> AsyncIterator[Provider]:
    """The provider of an app.

    records: they are open.  Raises UnknownApp, or ProviderUnavailable with a reason for
    operators.
    """
    apps = open_apps(settings, records)
    app = apps.get(app_id)
    if app is None:
        raise UnknownApp(app_id)
    providers = open_provider_registry(settings, apps, records)
    try:
        yield await providers.get(app)
    finally:
        await providers.close()


async def draw_test_code(settings: Settings, records: Records, app_id: str) -> str:
    """Draw a code that no login uses, and return the provider's name.

    Raises UnknownApp, or ProviderUnavailable with a reason for operators.
    """
    async with open_app_provider(settings, records, app_id) as provider:
        await provider.draw("a" * provider.scene_max)
        return provider.name


async def check_backends(settings: Settings) -> list[str]:
    """Return why backends cannot be built.  Connects to nothing and writes nothing."""
    mistakes: list[str] = []
    for check in BACKEND_CHECKS:
        with _collecting(mistakes):
            await check(settings)
    return list(dict.fromkeys(mistakes))  # state and bus may have one URL


async def _check_state(settings: Settings) -> None:
    await open_state_of(settings, None).close()


async def _check_bus(settings: Settings) -> None:
    await open_bus_of(settings).close()


async def _check_records(settings: Settings) -> None:
    await check_records(settings, time.time)


async def _check_pictures(settings: Settings) -> None:
    open_pictures(settings)


async def _check_files(settings: Settings) -> None:
    open_files(settings)


async def _check_policy(settings: Settings) -> None:
    if policy := open_login_policy(settings, time.time):
        await policy.close()


BACKEND_CHECKS: Sequence[Callable[[Settings], Awaitable[None]]] = (
    _check_state,
    _check_bus,
    _check_records,
    _check_pictures,
    _check_files,
    _check_policy,
)


def check_keys(settings: Settings) -> list[str]:
    """Return why the signing keys and the seal keys cannot be used.  Creates no file."""
    mistakes: list[str] = []
    for check in (_check_signing_keys, _check_seal_keys):
        with _collecting(mistakes):
            check(settings)
    return mistakes


@contextmanager
def _collecting(mistakes: list[str]) -> Iterator[None]:
    """Append a StartupError to `mistakes`."""
    try:
        yield
    except StartupError as error:
        mistakes.append(str(error))


def _check_signing_keys(settings: Settings) -> None:
    SigningKeyFile(settings[TokenSettings].key_file).load()


def _check_seal_keys(settings: Settings) -> None:
    group = settings[RecordsSettings]
    if not group.seal_keys:
        SealKeyFile(group.seal_file).load()
