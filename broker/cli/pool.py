"""`scan-login pool`: the codes that are drawn in advance."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated

import typer

from broker.apps.model import DEFAULT_APP
from broker.backends import open_apps, open_pictures
from broker.cli.openers import open_app_provider, open_code_leases
from broker.cli.output import Columns, Item, JSONOption, field, print_json, print_list
from broker.cli.progress import progress_reporter
from broker.cli.support import (
    ConfigFile,
    YesOption,
    read_settings,
    usage_error,
    with_records,
)
from broker.infrastructure.observability import logging as logs
from broker.infrastructure.settings import Settings
from broker.pool.filler import DEFAULT_CODES_PER_MINUTE, PoolFiller
from broker.pool.model import CodeCounts, CodeRecord, PoolLevel
from broker.pool.retirement import delete_retired_pictures, retire_codes
from broker.pool.state_sync import offer_to_state
from broker.pool.verifier import CodeDefect, verify_codes
from broker.records.store import Records

command = typer.Typer(no_args_is_help=True, help="Manage the codes that are drawn in advance.")

SECONDS_PER_DAY = 86_400.0

COUNT_MAX = 1_000_000

STATE_UNREACHABLE_NOTE = (
    "this command does not reach the brokers' state: running brokers apply the change within "
    "seconds"
)

AppOption = Annotated[str, typer.Option(help="App that owns the codes.")]


@command.command()
def fill(
    count: Annotated[
        int, typer.Option(min=1, max=COUNT_MAX, help="Number of codes that the pool should have.")
    ],
    app: AppOption = DEFAULT_APP,
    rate: Annotated[
        int,
        typer.Option(
            min=1, max=4500, help="Codes drawn per minute; WeChat allows a mini program 5 000."
        ),
    ] = DEFAULT_CODES_PER_MINUTE,
    file: ConfigFile = None,
) -> None:
    """Draw codes until the pool has COUNT codes, numbered 0 to COUNT - 1.

    Ctrl-C stops it. The same command continues from there and does not draw
    ready codes again. Several such commands can run at once.
    """
    settings = read_settings(file)
    logs.configure("critical")  # the progress reports errors
    print(with_records(settings, partial(_fill, settings, app, count, rate)))


async def _fill(settings: Settings, app: str, count: int, rate: int, records: Records) -> str:
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


@command.command()
def status(
    app: Annotated[str | None, typer.Option(help="Codes of this app only.")] = None,
    as_json: JSONOption = False,
    file: ConfigFile = None,
) -> None:
    """Print the number of codes of each app."""
    settings = read_settings(file)
    found = [
        {**counts._asdict(), "state": level and level._asdict()}
        for counts, level in with_records(settings, partial(_status, settings))
        if app in (None, counts.app)
    ]
    note = "no app has codes; see scan-login pool fill --help"
    print_list(found, STATUS_COLUMNS, as_json=as_json, empty_note=note)


def _level(name: str) -> Callable[[Item], object]:
    """Return a cell for a number of codes in the brokers' state."""

    def cell(item: Item) -> object:
        level = item["state"]
        return level[name] if isinstance(level, Mapping) else None

    return cell


def _age(item: Item) -> str | None:
    oldest = item["oldest"]
    return f"{_days_since(oldest):.0f}" if isinstance(oldest, float) else None


STATUS_COLUMNS: Columns = {
    **{name: field(name) for name in ("app", "ready", "reserved", "retired")},
    "free": _level("free"),
    "leased": _level("leased"),
    "cooldown": _level("resting"),
    "oldest (days)": _age,
    "pictures to remove": field("leftover"),
}


async def _status(
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


@command.command()
def retire(
    numbers: Annotated[
        list[str] | None,
        typer.Argument(help="Numbers of codes, and ranges: 7 20-29.", show_default=False),
    ] = None,
    app: AppOption = DEFAULT_APP,
    older_than: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="DAYS",
            help="Retire the codes that were drawn more than this many days ago.",
            show_default=False,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Retire all codes of the app.")] = False,
    yes: YesOption = False,
    file: ConfigFile = None,
) -> None:
    """Take codes out of use and remove their pictures; the next fill draws new ones."""
    if sum((bool(numbers), older_than is not None, every)) != 1:
        usage_error("give one of: numbers, --older-than, --all")
    chosen_numbers = _parse_numbers(numbers or [])
    before = time.time() - (older_than or 0) * SECONDS_PER_DAY

    def is_chosen(code: CodeRecord) -> bool:
        return code.number in chosen_numbers if numbers else code.drawn_at < before or every

    settings = read_settings(file)
    chosen = with_records(settings, partial(_ready, settings, app, is_chosen))
    if chosen and not yes:
        typer.confirm(f"Retire {len(chosen)} codes of {app}?", abort=True)
    with_records(settings, partial(_retire, settings, app, chosen))
    print(f"{len(chosen)} codes of {app} are retired")


async def _ready(
    settings: Settings, app: str, is_chosen: Callable[[CodeRecord], bool], records: Records
) -> list[CodeRecord]:
    key = await _key(settings, records, app)
    return [
        code async for batch in records.code_store.ready(key) for code in batch if is_chosen(code)
    ]


async def _retire(
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


@command.command()
def verify(
    app: AppOption = DEFAULT_APP, as_json: JSONOption = False, file: ConfigFile = None
) -> None:
    """Check that the picture of every ready code exists and is a complete image.

    Only WeChat can read the scene in a mini program code, so scenes are not checked.
    Codes of the pretend provider are drawn again and compared.
    """
    settings = read_settings(file)
    defects = with_records(settings, partial(_verify, settings, app))
    if as_json:
        print_json([defect._asdict() for defect in defects])
        raise typer.Exit(bool(defects))
    for defect in defects:
        print(f"{defect.number}: {defect.reason}")
    if defects:
        numbers = " ".join(str(defect.number) for defect in defects)
        sys.exit(
            f"{len(defects)} codes cannot be shown: run scan-login pool retire --app {app} "
            f"{numbers}"
        )
    print(f"all ready codes of {app} can be shown")


async def _verify(settings: Settings, app: str, records: Records) -> list[CodeDefect]:
    async with open_app_provider(settings, records, app) as provider:
        return await verify_codes(
            codes=records.code_store,
            pictures=open_pictures(settings),
            app=await _key(settings, records, app),
            draw=provider.draw if provider.name == "pretend" else None,
        )


async def _key(settings: Settings, records: Records, app: str) -> str:
    """Return the key of an app.  The key of a removed app is what `pool status` prints."""
    found = await open_apps(settings, records).get(app)
    return app if found is None else found.key


def _parse_numbers(words: Sequence[str]) -> set[int]:
    """Return the numbers of words such as `7` and `20-29`."""
    numbers: set[int] = set()
    for word in words:
        match = re.fullmatch(r"(\d{1,7})(?:-(\d{1,7}))?", word, re.ASCII)
        if match is None:
            usage_error(f"{word!r} is not a number or a range such as 20-29")
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return numbers


def _days_since(then: float) -> float:
    return (time.time() - then) / SECONDS_PER_DAY
