"""`scan-login pool`: the codes that are drawn in advance."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated

import typer

from broker.apps.model import DEFAULT_APP
from broker.cli.output import Columns, Item, JSONOption, field, print_json, print_list
from broker.cli.support import (
    ConfigFile,
    YesOption,
    read_settings,
    usage_error,
    with_change,
    with_records,
)
from broker.pool.model import DEFAULT_CODES_PER_MINUTE, CodeRecord

command = typer.Typer(no_args_is_help=True)

SECONDS_PER_DAY = 86_400.0

COUNT_MAX = 1_000_000

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
    from broker.cli import pool_acts  # imported here, because the help does not need it

    settings = read_settings(file)
    work = partial(pool_acts.fill, settings, app, count, rate)
    # The progress reports errors, so the log does not.
    print(with_change(settings, "pool fill", app, work, log_level="critical"))


@command.command()
def status(
    app: Annotated[str | None, typer.Option(help="Codes of this app only.")] = None,
    as_json: JSONOption = False,
    file: ConfigFile = None,
) -> None:
    """Print the number of codes of each app."""
    from broker.cli import pool_acts  # imported here, because the help does not need it

    settings = read_settings(file)
    found = [
        {**counts._asdict(), "state": level and level._asdict()}
        for counts, level in with_records(settings, partial(pool_acts.read_status, settings))
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
    from broker.cli import pool_acts  # imported here, because the help does not need it

    if sum((bool(numbers), older_than is not None, every)) != 1:
        usage_error("give one of: numbers, --older-than, --all")
    chosen_numbers = _parse_numbers(numbers or [])
    before = time.time() - (older_than or 0) * SECONDS_PER_DAY

    def is_chosen(code: CodeRecord) -> bool:
        return code.number in chosen_numbers if numbers else code.drawn_at < before or every

    settings = read_settings(file)
    chosen = with_records(settings, partial(pool_acts.find_ready, settings, app, is_chosen))
    if chosen and not yes:
        typer.confirm(f"Retire {len(chosen)} codes of {app}?", abort=True)
    with_change(settings, "pool retire", app, partial(pool_acts.retire, settings, app, chosen))
    print(f"{len(chosen)} codes of {app} are retired")


@command.command()
def verify(
    app: AppOption = DEFAULT_APP, as_json: JSONOption = False, file: ConfigFile = None
) -> None:
    """Check that the picture of every ready code exists and is a complete image.

    Only WeChat can read the scene in a mini program code, so scenes are not checked.
    Codes of the pretend provider are drawn again and compared.
    """
    from broker.cli import pool_acts  # imported here, because the help does not need it

    settings = read_settings(file)
    defects = with_records(settings, partial(pool_acts.verify, settings, app))
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
