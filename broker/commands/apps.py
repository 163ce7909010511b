"""`scan-login app`: the sites that log people in, as an operator writes them down."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from broker.commands import ConfigFile, read_settings, with_records
from broker.records import DEFAULT_APP
from broker.records.rules import CODE_SOURCES, LIFETIME_MAX

command = typer.Typer(no_args_is_help=True, help="The sites that log people in.")

SOON = "running brokers know within seconds"

Id = Annotated[str, typer.Argument(help="What browsers and phones call the app.")]
Name = Annotated[
    str | None,
    typer.Option(help="What the person reads on the phone; a new app's id when not given."),
]
Origin = Annotated[
    list[str] | None,
    typer.Option(help="An exact Origin that pages may come from; several times for several."),
]
RedirectUrl = Annotated[
    list[str] | None,
    typer.Option(help="An exact URL that browsers may be sent to; several times for several."),
]
RegisterUrl = Annotated[
    str | None, typer.Option(help="Where people go who are not known.", show_default=False)
]
Provider = Annotated[
    str | None,
    typer.Option(
        help="Who draws codes and proves phones. Where an app is added without it, "
        "it is what the settings say then, and stays so.",
        show_default=False,
    ),
]
ProviderAppId = Annotated[
    str | None,
    typer.Option(help="What the provider calls the app: WeChat's appid.", show_default=False),
]
CodeSource = Annotated[
    str | None, typer.Option(help=f"Where codes come from: {' or '.join(CODE_SOURCES)}.")
]
LoginLifetime = Annotated[
    int | None,
    typer.Option(
        help=f"Seconds that a code may be scanned and confirmed, up to {LIFETIME_MAX}; "
        "0: as the settings say."
    ),
]
Secret = Annotated[
    bool | None,
    typer.Option(
        "--secret/--no-secret",
        help="Read the provider's secret (WeChat: AppSecret) from standard input; a terminal "
        "asks for it unseen. --no-secret forgets it.",
        show_default=False,
    ),
]


@command.command()
def add(
    app_id: Id,
    name: Name = None,
    origin: Origin = None,
    redirect_url: RedirectUrl = None,
    register_url: RegisterUrl = None,
    provider: Provider = None,
    provider_app_id: ProviderAppId = None,
    code_source: CodeSource = None,
    login_lifetime: LoginLifetime = None,
    secret: Secret = None,
    file: ConfigFile = None,
) -> None:
    """Write a new app down."""
    fields = _fields(
        name=name or app_id,
        origins=origin,
        redirect_urls=redirect_url,
        register_url=register_url,
        provider=provider,
        provider_app_id=provider_app_id,
        code_source=code_source,
        login_lifetime=login_lifetime,
        secret=secret,
    )
    with_records(read_settings(file), lambda records: records.book.add(app_id, fields))
    print(f"app {app_id} is written down; {SOON}")


@command.command("set")
def change(
    app_id: Id,
    name: Name = None,
    origin: Origin = None,
    redirect_url: RedirectUrl = None,
    register_url: RegisterUrl = None,
    provider: Provider = None,
    provider_app_id: ProviderAppId = None,
    code_source: CodeSource = None,
    login_lifetime: LoginLifetime = None,
    secret: Secret = None,
    file: ConfigFile = None,
) -> None:
    """Change what is said of an app, and leave the rest; "" empties an option's value."""
    fields = _fields(
        name=name,
        origins=origin,
        redirect_urls=redirect_url,
        register_url=register_url,
        provider=provider,
        provider_app_id=provider_app_id,
        code_source=code_source,
        login_lifetime=login_lifetime,
        secret=secret,
    )
    if not fields:
        sys.exit("nothing to change was said; see scan-login app set --help")
    with_records(read_settings(file), lambda records: records.book.change(app_id, fields))
    print(f"app {app_id} is changed; {SOON}")


@command.command("list")
def show(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    file: ConfigFile = None,
) -> None:
    """Print the apps that are written down; of secrets, only whether there are any."""
    apps = [one.shown() for one in with_records(read_settings(file), lambda r: r.book.list())]
    if as_json:
        print(json.dumps(apps, indent=2, ensure_ascii=False))
        return
    for app in apps:
        print(f"{app['id']}")
        for name, value in app.items():
            shown = ", ".join(value) if isinstance(value, list) else value
            if name != "id" and shown not in (None, ""):
                print(f"    {name} = {shown}")
    print(f"{DEFAULT_APP}\n    the settings' own: see scan-login config show")


@command.command()
def rotate_secret(app_id: Id, file: ConfigFile = None) -> None:
    """Make the secret anew by which the app's own servers prove themselves.

    It is printed this once; the former one is worth nothing any more.
    """
    secret = with_records(read_settings(file), lambda records: records.book.rotate_secret(app_id))
    print(secret)
    print(f"keep it now, for it is not kept here; {SOON}", file=sys.stderr)


@command.command()
def remove(
    app_id: Id,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    file: ConfigFile = None,
) -> None:
    """Strike an app out: logins under way go on, none begins any more."""
    if not yes:
        typer.confirm(f"Remove {app_id}, and its secrets with it?", abort=True)
    with_records(read_settings(file), lambda records: records.book.remove(app_id))
    print(f"app {app_id} is removed; {SOON}")


EMPTY: dict[str, object] = {"register_url": None, "login_lifetime": None}
"""What stands for nothing, where that is not the empty text."""


def _fields(*, secret: bool | None, **said: object) -> dict[str, object]:
    """What was said of the app."""
    fields = {name: value for name, value in said.items() if value is not None}
    for name, value in fields.items():
        if value in ("", 0):
            fields[name] = EMPTY.get(name, "")
        elif value == [""]:
            fields[name] = []
    if secret is not None:
        fields["provider_secret"] = _read_secret() if secret else None
    return fields


def _read_secret() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("The provider's secret", hide_input=True))
    secret = sys.stdin.read().strip()
    if not secret:
        sys.exit("standard input holds no secret")
    return secret
