"""`scan-login pool`: codes drawn ahead of time, for apps whose codes come from a pool."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from broker.apps.model import DEFAULT_APP
from broker.cli.support import ConfigFile, read_settings, with_records
from broker.infrastructure.observability import logging as logs
from broker.infrastructure.settings import Settings
from broker.parts import open_app_provider, open_apps, open_code_leases, open_pictures
from broker.pool.filler import DEFAULT_CODES_PER_MINUTE, FillProgress, PoolFiller
from broker.pool.model import CodeCounts, CodeRecord, PoolLevel
from broker.pool.retirement import delete_retired_pictures, retire_codes
from broker.pool.state_sync import offer_to_state
from broker.pool.verifier import CodeDefect, verify_codes
from broker.records.store import Records

command = typer.Typer(no_args_is_help=True, help="Codes drawn ahead of time.")

SECONDS_PER_DAY = 86_400.0

PROGRESS_INTERVAL = 5.0
"""Seconds between two lines of a filling where no terminal shows a bar."""

COUNT_MAX = 1_000_000

STATE_UNREACHABLE_NOTE = (
    "the state is not reached from here: brokers that run take it over within seconds"
)

AppOption = Annotated[str, typer.Option(help="Whose codes.")]

ProgressReporter = Callable[[FillProgress], None]


@command.command()
def fill(
    count: Annotated[
        int, typer.Option(min=1, max=COUNT_MAX, help="How many codes there are to be.")
    ],
    app: AppOption = DEFAULT_APP,
    rate: Annotated[
        int,
        typer.Option(
            min=1, max=4500, help="Codes drawn a minute; WeChat allows a mini program 5 000."
        ),
    ] = DEFAULT_CODES_PER_MINUTE,
    file: ConfigFile = None,
) -> None:
    """Draw codes until all numbers from 0 to COUNT - 1 have one.

    Ctrl-C stops it cleanly.  The same command continues from there and does
    not draw ready codes again.  Several may fill at once.
    """
    settings = read_settings(file)
    logs.configure("critical")  # trouble is told once, with the progress
    print(with_records(settings, partial(_fill, settings, app, count, rate)))


async def _fill(settings: Settings, app: str, count: int, rate: int, records: Records) -> str:
    """Fill until there are `count`, or a signal comes; what has come of it."""
    key = await _key(settings, records, app)
    async with (
        open_app_provider(settings, records, app) as provider,
        open_code_leases(settings) as leases,
    ):
        with _telling() as tell:
            filling = PoolFiller(
                provider=provider,
                codes=records.code_store,
                pictures=open_pictures(settings),
                app=key,
                count=count,
                per_minute=rate,
                offer=offer_to_state(leases, key) if leases else None,
                report=tell,
            )
            _stop_at_signals(filling)
            drawn = await filling.run()
    if leases is None:
        print(STATE_UNREACHABLE_NOTE, file=sys.stderr)
    missing = len(await records.code_store.missing(key, count))
    said = f"{drawn} codes were drawn; {count - missing} of {count} are ready"
    return f"{said}, and the same command goes on" if missing else said


def _stop_at_signals(filling: PoolFiller) -> None:
    """The first signal ends the filling in order, the next one at once."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        filling.stop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


@contextmanager
def _telling() -> Iterator[ProgressReporter]:
    """Tells how far a filling is: with a bar on a terminal, else with a line now and then."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(TextColumn("drawing"), *columns, console=console) as bar:
        task = bar.add_task("drawing", total=None)
        told = ""

        def tell(progress: FillProgress) -> None:
            nonlocal told
            bar.update(task, total=progress.target, completed=progress.ready)
            if progress.waiting_for not in ("", told):
                told = progress.waiting_for
                console.print(f"waiting: {told}", markup=False, highlight=False)

        yield tell


def _lines() -> ProgressReporter:
    told, again_at = "", 0.0

    def tell(progress: FillProgress) -> None:
        nonlocal told, again_at
        if progress.waiting_for not in ("", told):
            told = progress.waiting_for
            print(f"waiting: {told}", file=sys.stderr, flush=True)
        elif time.monotonic() >= again_at:
            again_at = time.monotonic() + PROGRESS_INTERVAL
            said = f"{progress.ready} of {progress.target} codes are ready"
            print(said, file=sys.stderr, flush=True)

    return tell


@command.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    file: ConfigFile = None,
) -> None:
    """Print how many codes every app has."""
    settings = read_settings(file)
    found = with_records(settings, partial(_status, settings))
    if as_json:
        shown = [{**one._asdict(), "state": level and level._asdict()} for one, level in found]
        print(json.dumps(shown, indent=2))
        return
    for one, level in found:
        print(f"{one.app}: {one.ready} ready, {one.reserved} begun, {one.retired} retired")
        if one.oldest is not None:
            print(f"    the oldest was drawn {_days_since(one.oldest):.0f} days ago")
        if one.leftover:
            print(f"    {one.leftover} pictures of retired codes are to be removed yet")
        if level is not None:
            free, leased, resting = level
            print(f"    in the state {free} are free, {leased} leased, {resting} resting")
    if not found:
        print("no app has codes; see scan-login pool fill --help")


async def _status(
    settings: Settings, records: Records
) -> list[tuple[CodeCounts, PoolLevel | None]]:
    """Counts with the app's id, or with its key if the app was removed."""
    counts = await records.code_store.counts()
    names = {one.app.key: one.app.id for one in await records.app_admin.list()}
    async with open_code_leases(settings) as leases:
        return [
            (
                one._replace(app=names.get(one.app, one.app)),
                await leases.level(one.app) if leases else None,
            )
            for one in counts
        ]


@command.command()
def retire(
    numbers: Annotated[
        list[str] | None,
        typer.Argument(help="Numbers of codes, and ranges of them: 7 20-29.", show_default=False),
    ] = None,
    app: AppOption = DEFAULT_APP,
    older_than: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="DAYS",
            help="Those that were drawn more than so many days ago.",
            show_default=False,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of the app's.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    file: ConfigFile = None,
) -> None:
    """Take codes out of service and remove their pictures; the next filling draws others."""
    if sum((bool(numbers), older_than is not None, every)) != 1:
        sys.exit("say which: numbers, --older-than, or --all")
    wanted = _numbers(numbers or [])
    before = time.time() - (older_than or 0) * SECONDS_PER_DAY

    def is_chosen(code: CodeRecord) -> bool:
        return code.number in wanted if numbers else code.drawn_at < before or every

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
        code async for some in records.code_store.ready(key) for code in some if is_chosen(code)
    ]


async def _retire(
    settings: Settings, app: str, chosen: Sequence[CodeRecord], records: Records
) -> None:
    codes, key = records.code_store, await _key(settings, records, app)
    async with open_code_leases(settings) as leases:
        await retire_codes(key, chosen, codes=codes, withdraw=leases.withdraw if leases else None)
        if leases is None:
            print(STATE_UNREACHABLE_NOTE, file=sys.stderr)
    pooled = {one.key for one in open_apps(settings, records).with_pool()}
    if key not in pooled:  # else screens may still show them; brokers remove them later
        await delete_retired_pictures(key, codes=codes, pictures=open_pictures(settings))


@command.command()
def verify(app: AppOption = DEFAULT_APP, file: ConfigFile = None) -> None:
    """Look at the picture of every ready code: is it there, and a whole image?

    Only WeChat can read the scene of a mini program code, so it is not checked.
    The pretend provider's codes are drawn once more and compared.
    """
    settings = read_settings(file)
    flaws = with_records(settings, partial(_verify, settings, app))
    for one in flaws:
        print(f"{one.number}: {one.reason}")
    if flaws:
        numbers = " ".join(str(one.number) for one in flaws)
        sys.exit(
            f"{len(flaws)} codes cannot be shown: scan-login pool retire --app {app} {numbers}"
        )
    print(f"every ready code of {app} can be shown")


async def _verify(settings: Settings, app: str, records: Records) -> list[CodeDefect]:
    async with open_app_provider(settings, records, app) as provider:
        return await verify_codes(
            codes=records.code_store,
            pictures=open_pictures(settings),
            app=await _key(settings, records, app),
            draw=provider.draw if provider.name == "pretend" else None,
        )


async def _key(settings: Settings, records: Records, app: str) -> str:
    """The key of an app by its id; of a removed app it is what `pool status` prints."""
    found = await open_apps(settings, records).get(app)
    return app if found is None else found.key


def _numbers(words: Sequence[str]) -> set[int]:
    """`7` and `20-29` as numbers."""
    numbers: set[int] = set()
    for word in words:
        said = re.fullmatch(r"(\d{1,7})(?:-(\d{1,7}))?", word, re.ASCII)
        if said is None:
            sys.exit(f"{word!r} is neither a number nor a range such as 20-29")
        numbers.update(range(int(said[1]), int(said[2] or said[1]) + 1))
    return numbers


def _days_since(then: float) -> float:
    return (time.time() - then) / SECONDS_PER_DAY
