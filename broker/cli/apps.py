"""`scan-login app`: the apps that log people in."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from broker.apps.model import DEFAULT_APP
from broker.apps.rules import missing_account_field
from broker.cli import app_show
from broker.cli.app_options import IdArgument, OIDCOption, takes_fields
from broker.cli.output import JSONOption, print_json
from broker.cli.support import (
    ConfigFile,
    YesOption,
    read_settings,
    recorded,
    usage_error,
    with_change,
    with_records,
)

if TYPE_CHECKING:
    from broker.apps.model import AppRecord
    from broker.infrastructure.settings import Settings
    from broker.records.store import Records

command = typer.Typer(no_args_is_help=True)

command.command("list")(app_show.list_apps)

command.command("show")(app_show.show)

PROPAGATION_NOTE = "running brokers apply this within seconds"

SECRET_NOTE = (
    f"store it now: only its hash is kept, and it is not printed again; {PROPAGATION_NOTE}"
)


@command.command()
@takes_fields
def add(
    app_id: IdArgument,
    *,
    oidc: OIDCOption = False,
    as_json: JSONOption = False,
    file: ConfigFile = None,
    **options: Any,
) -> None:
    """Add an app."""
    fields = _fields(**{**options, "name": options["name"] or app_id})
    if oidc and not options["redirect_url"]:
        usage_error("--oidc needs --redirect-url, the callback URL of the product")
    if oidc and not options["provider_app_id"]:
        fields = {"phone_app": DEFAULT_APP, **fields}
    needs_secret = oidc and options["client_type"] != "public"
    added, api_secret = with_records(
        read_settings(file), lambda records: _add(records, app_id, fields, needs_secret)
    )
    _note_incomplete_account(added)
    if as_json:
        print_json({"client_id": app_id, "client_secret": api_secret})
        return
    print(f"app {app_id} is added; {PROPAGATION_NOTE}")
    if api_secret:
        print(f"client_id: {app_id}\nclient_secret: {api_secret}")
        print(SECRET_NOTE, file=sys.stderr)


async def _add(
    records: Records, app_id: str, fields: Mapping[str, object], needs_secret: bool
) -> tuple[AppRecord, str | None]:
    """Add the app. Return it, and the secret of its servers if one is needed."""
    added = await recorded(records, "app add", app_id, records.app_admin.add(app_id, fields))
    return added, await _rotate_secret(records, app_id) if needs_secret else None


async def _rotate_secret(records: Records, app_id: str) -> str:
    rotation = records.app_admin.rotate_secret(app_id)
    return await recorded(records, "app rotate-secret", app_id, rotation)


ACCOUNT_OPTIONS: Mapping[str, str] = {
    "provider_app_id": "--provider-app-id APPID",
    "provider_secret": "--secret",
}
"""The option of each field of an account at the provider."""


def _note_incomplete_account(app: AppRecord) -> None:
    if missing := missing_account_field(app):
        print(
            f"the app gets no codes without {missing}: run scan-login app set {app.app.id} "
            f"{ACCOUNT_OPTIONS[missing]}",
            file=sys.stderr,
        )


@command.command("set")
@takes_fields
def change(app_id: IdArgument, *, file: ConfigFile = None, **options: Any) -> None:
    """Change the fields that are given; "" removes a field's value."""
    fields = _fields(**options)
    if not fields:
        usage_error("no change is given; see scan-login app set --help")
    settings = read_settings(file)
    changed = with_records(settings, lambda records: _change(settings, records, app_id, fields))
    _note_incomplete_account(changed)
    if "id_token_alg" in fields:
        print("restart the products that use this app: they keep the algorithm", file=sys.stderr)
    print(f"app {app_id} is changed; {PROPAGATION_NOTE}")


async def _change(
    settings: Settings, records: Records, app_id: str, fields: Mapping[str, object]
) -> AppRecord:
    changed = await recorded(records, "app set", app_id, records.app_admin.update(app_id, fields))
    if fields.get("tunnel_url"):
        await records.apps.refresh()
        # Imported here, because it imports aiohttp, which the other commands do not need.
        from broker.cli.tunnel_url import print_verification

        await print_verification(settings, records, app_id)
    return changed


@command.command()
def rotate_secret(app_id: IdArgument, file: ConfigFile = None) -> None:
    """Replace the secret with which the app's own servers authenticate.

    Prints the new secret, once. The old secret is invalid from then on.
    """
    print(with_records(read_settings(file), lambda records: _rotate_secret(records, app_id)))
    print(SECRET_NOTE, file=sys.stderr)


@command.command()
def rotate_webhook_secret(app_id: IdArgument, file: ConfigFile = None) -> None:
    """Add a secret that signs requests to the app.

    Prints the new secret, once. The previous one also signs until the next rotation.
    """
    secret = with_change(
        read_settings(file),
        "app rotate-webhook-secret",
        app_id,
        lambda records: records.app_admin.rotate_webhook_secret(app_id),
    )
    print(secret)
    print(f"give it to the app's server now; {PROPAGATION_NOTE}", file=sys.stderr)


@command.command()
def remove(app_id: IdArgument, yes: YesOption = False, file: ConfigFile = None) -> None:
    """Delete an app. Logins in progress finish; new ones are refused."""
    if not yes:
        typer.confirm(f"Remove {app_id} and its secrets?", abort=True)
    with_change(
        read_settings(file), "app remove", app_id, lambda records: records.app_admin.remove(app_id)
    )
    print(f"app {app_id} is removed; {PROPAGATION_NOTE}")


CLEARED_VALUES: dict[str, object] = {
    "register_url": None,
    "login_lifetime": None,
    "home_url": None,
    "backchannel_logout_url": None,
    "events_url": None,
    "logo_url": None,
    "open_url": None,
    "tunnel_url": None,
    "files_max": None,
    "files_lifetime": None,
    "files_url": None,
    "rooms": "none",
}
"""The value of a removed field, if it is not the empty text."""


LIST_FIELDS: Mapping[str, str] = {
    "origin": "origins",
    "redirect_url": "redirect_urls",
    "post_logout_url": "post_logout_urls",
    "scope": "scopes",
    "network": "networks",
    "moderator": "moderators",
    "files_type": "files_types",
}
"""The field of each option that can be repeated."""


def _fields(*, secret: bool | None, wafer_key: bool | None, **options: object) -> dict[str, object]:
    """Return the fields that the options set."""
    if secret and wafer_key:
        usage_error("standard input has one secret: use --secret and --wafer-key in two commands")
    given = {
        LIST_FIELDS.get(name, name): value for name, value in options.items() if value is not None
    }
    fields = {name: _value(name, value) for name, value in given.items()}
    if secret is not None:
        fields["provider_secret"] = _read_secret("provider's secret") if secret else None
    if wafer_key is not None:
        fields["wafer_key"] = _read_secret("TunnelSignatureKey") if wafer_key else None
    return fields


def _value(name: str, value: object) -> object:
    if isinstance(value, bool):
        return value  # False equals 0, but is a value
    if value in ("", 0):
        return CLEARED_VALUES.get(name, "")
    return [] if value == [""] else value


def _read_secret(name: str) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(f"The {name}", hide_input=True))
    secret = sys.stdin.read().strip()
    if not secret:
        usage_error("standard input has no secret: pipe it in, such as with < appsecret.txt")
    return secret
