"""`scan-login audit`: the audit log."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from broker.audit.model import AuditKind, AuditQuery, ChainCheck, ExportedEntry
from broker.cli.output import Columns, JSONOption, field, print_json, print_list, time_of
from broker.cli.support import ConfigFile, read_settings, with_records
from broker.infrastructure.codec import encode

if TYPE_CHECKING:
    from broker.records.store import Records

command = typer.Typer(no_args_is_help=True)

PAGE = 500

TIME_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]

COLUMNS: Columns = {
    "seq": field("seq"),
    "at": time_of("at"),
    **{name: field(name) for name in ("kind", "app", "state", "subject", "actor", "ip", "reason")},
}


@command.command(name="list")
def list_entries(
    file: ConfigFile = None,
    subject: Annotated[str | None, typer.Option(help="Entries of this subject only.")] = None,
    app: Annotated[str | None, typer.Option(help="Entries of this app only.")] = None,
    kind: Annotated[AuditKind | None, typer.Option(help="Entries of this kind only.")] = None,
    state: Annotated[str | None, typer.Option(help="Entries with this state only.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(help="Entries from this time on, in UTC.", formats=TIME_FORMATS),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=999, help="Number of entries.")] = 100,
    as_json: JSONOption = False,
) -> None:
    """Print entries, the latest first."""
    query = AuditQuery(
        app=app,
        subject=subject,
        state=state,
        kind=kind,
        since=None if since is None else since.replace(tzinfo=UTC).timestamp(),
    )

    async def search(records: Records) -> Sequence[ExportedEntry]:
        return await records.audit_export.search(query, limit)

    entries = with_records(read_settings(file), search)
    print_list([dict(entry) for entry in entries], COLUMNS, as_json=as_json)


@command.command()
def export(
    file: ConfigFile = None,
    after: Annotated[
        int, typer.Option(min=0, help="Entries after this `seq` only.", show_default=False)
    ] = 0,
) -> None:
    """Print all entries in the order of their numbers, one JSON object a line."""

    async def write(records: Records) -> None:
        last = after
        while page := await records.audit_export.page(last, PAGE):
            for entry in page:
                print(encode(entry).decode())
            last = int(str(page[-1]["seq"]))

    with_records(read_settings(file), write)


@command.command()
def verify(as_json: JSONOption = False, file: ConfigFile = None) -> None:
    """Compare the entries with their hash chain. Exits with 1 at the first break."""

    async def check(records: Records) -> ChainCheck:
        return await records.audit_export.verify()

    found = with_records(read_settings(file), check)
    if as_json:
        print_json(found._asdict())
        raise typer.Exit(found.broken_at is not None)
    if found.broken_at is not None:
        sys.exit(f"the chain is broken at entry {found.broken_at}: {found.problem}")
    print(f"{found.checked} entries agree with the hash chain")
