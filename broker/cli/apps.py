"""`scan-login app`: the apps that log people in."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from broker.apps.model import DEFAULT_APP
from broker.apps.rules import CODE_SOURCES, LIFETIME_MAX
from broker.cli.support import (
    ConfigFile,
    JSONOption,
    YesOption,
    print_json,
    read_settings,
    usage_error,
    with_records,
)

command = typer.Typer(
    no_args_is_help=True, help="Manage apps: the sites and mini programs that log people in."
)

PROPAGATION_NOTE = "running brokers apply this within seconds"

IdArgument = Annotated[
    str, typer.Argument(help="Id of the app, the client_id of browsers.", metavar="ID")
]

NameOption = Annotated[
    str | None, typer.Option(help="Name that the phone shows. Default of a new app: its id.")
]

OriginOption = Annotated[
    list[str] | None,
    typer.Option(help="Exact Origin of pages that may connect; repeat it for several."),
]

RedirectUrlOption = Annotated[
    list[str] | None,
    typer.Option(help="Exact URL to which browsers may be redirected; repeat it for several."),
]

RegisterUrlOption = Annotated[
    str | None,
    typer.Option(help="Page to which unregistered people are sent.", show_default=False),
]

ProviderOption = Annotated[
    str | None,
    typer.Option(
        help="Provider that draws codes and verifies phones. Default of a new app: the "
        "setting at that time.",
        show_default=False,
    ),
]

ProviderAppIdOption = Annotated[
    str | None,
    typer.Option(help="Id of the app at the provider; WeChat: AppID.", show_default=False),
]

CodeSourceOption = Annotated[
    str | None, typer.Option(help=f"Source of codes: {' or '.join(CODE_SOURCES)}.")
]

LoginLifetimeOption = Annotated[
    int | None,
    typer.Option(
        help=f"Seconds in which a code can be scanned and confirmed, up to {LIFETIME_MAX}; "
        "0 uses the setting."
    ),
]

SecretOption = Annotated[
    bool | None,
    typer.Option(
        "--secret/--no-secret",
        help="Read the provider's secret (WeChat: AppSecret) from standard input; on a terminal, "
        "ask for it without echo. --no-secret deletes it.",
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
    """Add an app."""
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
    print(f"app {app_id} is added; {PROPAGATION_NOTE}")


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
    """Change the fields that are given; "" removes a field's value."""
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
        usage_error("no change is given; see scan-login app set --help")
    with_records(read_settings(file), lambda records: records.app_admin.update(app_id, fields))
    print(f"app {app_id} is changed; {PROPAGATION_NOTE}")


@command.command("list")
def show(as_json: JSONOption = False, file: ConfigFile = None) -> None:
    """Print all apps. Secrets are not printed, only whether an app has one."""
    found = with_records(read_settings(file), lambda records: records.app_admin.list())
    apps = [app.as_dict() for app in found]
    if as_json:
        print_json(apps)
        return
    for app in apps:
        _print_fields(app)
    print(f"{DEFAULT_APP}\n    from the settings: see scan-login config show")


def _print_fields(app: Mapping[str, object]) -> None:
    print(app["id"])
    for name, value in app.items():
        text = ", ".join(value) if isinstance(value, list) else value
        if name != "id" and text not in (None, ""):
            print(f"    {name} = {text}")


@command.command()
def rotate_secret(app_id: IdArgument, file: ConfigFile = None) -> None:
    """Replace the secret with which the app's own servers authenticate.

    Prints the new secret, once. The old secret is invalid from then on.
    """
    secret = with_records(
        read_settings(file), lambda records: records.app_admin.rotate_secret(app_id)
    )
    print(secret)
    print(
        f"store it now: only its hash is kept, and it is not printed again; {PROPAGATION_NOTE}",
        file=sys.stderr,
    )


@command.command()
def remove(app_id: IdArgument, yes: YesOption = False, file: ConfigFile = None) -> None:
    """Delete an app. Logins in progress finish; new ones are refused."""
    if not yes:
        typer.confirm(f"Remove {app_id} and its secrets?", abort=True)
    with_records(read_settings(file), lambda records: records.app_admin.remove(app_id))
    print(f"app {app_id} is removed; {PROPAGATION_NOTE}")


CLEARED_VALUES: dict[str, object] = {"register_url": None, "login_lifetime": None}
"""The value of a removed field, if it is not the empty text."""


def _fields(*, secret: bool | None, **options: object) -> dict[str, object]:
    """Return the fields that the options set."""
    fields = {name: value for name, value in options.items() if value is not None}
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
        usage_error("standard input has no secret: pipe it in, such as with < appsecret.txt")
    return secret
