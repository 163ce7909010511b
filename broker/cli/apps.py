"""`scan-login app`: the sites that log people in, as an operator writes them down."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from broker.apps.model import DEFAULT_APP
from broker.apps.rules import CODE_SOURCES, LIFETIME_MAX
from broker.cli.support import ConfigFile, read_settings, with_records

command = typer.Typer(no_args_is_help=True, help="The sites that log people in.")

PROPAGATION_NOTE = "running brokers know within seconds"

IdArgument = Annotated[str, typer.Argument(help="What browsers and phones call the app.")]

NameOption = Annotated[
    str | None,
    typer.Option(help="What the person reads on the phone; a new app's id when not given."),
]

OriginOption = Annotated[
    list[str] | None,
    typer.Option(help="An exact Origin that pages may come from; several times for several."),
]

RedirectUrlOption = Annotated[
    list[str] | None,
    typer.Option(help="An exact URL that browsers may be sent to; several times for several."),
]

RegisterUrlOption = Annotated[
    str | None, typer.Option(help="Where people go who are not known.", show_default=False)
]

ProviderOption = Annotated[
    str | None,
    typer.Option(
        help="Who draws codes and proves phones. Where an app is added without it, "
        "it is what the settings say then, and stays so.",
        show_default=False,
    ),
]

ProviderAppIdOption = Annotated[
    str | None,
    typer.Option(help="What the provider calls the app: WeChat's appid.", show_default=False),
]

CodeSourceOption = Annotated[
    str | None, typer.Option(help=f"Where codes come from: {' or '.join(CODE_SOURCES)}.")
]

LoginLifetimeOption = Annotated[
    int | None,
    typer.Option(
        help=f"Seconds that a code may be scanned and confirmed, up to {LIFETIME_MAX}; "
        "0: as the settings say."
    ),
]

SecretOption = Annotated[
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
    app_id: IdArgument,
    name: NameOption = None,
    origin: OriginOption = None,
    redirect_url: RedirectUrlOption = None,
    register_url: RegisterUrlOption = None,
    provider: ProviderOption = None,
    provider_app_id: ProviderAppIdOption = None,
    code_source: CodeSourceOption = None,
    login_lifetime: LoginLifetimeOption = None,
    secret: SecretOption = None,
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
    with_records(read_settings(file), lambda records: records.app_admin.add(app_id, fields))
    print(f"app {app_id} is written down; {PROPAGATION_NOTE}")


@command.command("set")
def change(
    app_id: IdArgument,
    name: NameOption = None,
    origin: OriginOption = None,
    redirect_url: RedirectUrlOption = None,
    register_url: RegisterUrlOption = None,
    provider: ProviderOption = None,
    provider_app_id: ProviderAppIdOption = None,
    code_source: CodeSourceOption = None,
    login_lifetime: LoginLifetimeOption = None,
    secret: SecretOption = None,
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
    with_records(read_settings(file), lambda records: records.app_admin.update(app_id, fields))
    print(f"app {app_id} is changed; {PROPAGATION_NOTE}")


@command.command("list")
def show(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    file: ConfigFile = None,
) -> None:
    """Print the apps that are written down; of secrets, only whether there are any."""
    apps = [
        one.as_dict() for one in with_records(read_settings(file), lambda r: r.app_admin.list())
    ]
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
def rotate_secret(app_id: IdArgument, file: ConfigFile = None) -> None:
    """Make the secret anew by which the app's own servers prove themselves.

    It is printed this once; the former one is worth nothing any more.
    """
    secret = with_records(
        read_settings(file), lambda records: records.app_admin.rotate_secret(app_id)
    )
    print(secret)
    print(f"keep it now, for it is not kept here; {PROPAGATION_NOTE}", file=sys.stderr)


@command.command()
def remove(
    app_id: IdArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    file: ConfigFile = None,
) -> None:
    """Strike an app out: logins under way go on, none begins any more."""
    if not yes:
        typer.confirm(f"Remove {app_id}, and its secrets with it?", abort=True)
    with_records(read_settings(file), lambda records: records.app_admin.remove(app_id))
    print(f"app {app_id} is removed; {PROPAGATION_NOTE}")


CLEARED_VALUES: dict[str, object] = {"register_url": None, "login_lifetime": None}
"""What stands for nothing, where that is not the empty text."""


def _fields(*, secret: bool | None, **said: object) -> dict[str, object]:
    """What was said of the app."""
    fields = {name: value for name, value in said.items() if value is not None}
    for name, value in fields.items():
        if value in ("", 0):
            fields[name] = CLEARED_VALUES.get(name, "")
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
