"""`scan-login app list` and `app show`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import typer

from broker.apps.model import DEFAULT_APP, AppRecord
from broker.cli.app_options import IdArgument
from broker.cli.oidc_products import ALIASES, PRODUCTS, fill_template, find_problems
from broker.cli.support import (
    ConfigFile,
    JSONOption,
    print_json,
    print_table,
    read_settings,
    usage_error,
    with_records,
)
from broker.infrastructure.runtime.settings import ServerSettings

ProductOption = Annotated[
    str | None,
    typer.Option(
        "--oidc",
        metavar="NAME",
        help=f"Print the configuration of a product instead: {', '.join([*PRODUCTS, *ALIASES])}.",
        show_default=False,
    ),
]

COLUMNS = ("id", "name", "client_type", "provider", "has_api_secret", "changed_at")
"""Fields in the table of all apps."""

TIMES = ("created_at", "changed_at")


def list_apps(as_json: JSONOption = False, file: ConfigFile = None) -> None:
    """Print all apps. Secrets are not printed, only whether an app has one."""
    found = with_records(read_settings(file), lambda records: records.app_admin.list())
    apps = [app.as_dict() for app in found]
    if as_json:
        print_json(apps)
        return
    rows = [_row(app) for app in apps]
    print_table(COLUMNS, [*rows, [DEFAULT_APP, "from the settings", *[""] * (len(COLUMNS) - 2)]])


def show(
    app_id: IdArgument,
    product: ProductOption = None,
    as_json: JSONOption = False,
    file: ConfigFile = None,
) -> None:
    """Print an app, or the configuration of a product that signs in with it."""
    if app_id == DEFAULT_APP:
        usage_error(f"the settings define the app {DEFAULT_APP}: see scan-login config show")
    settings = read_settings(file)
    record = with_records(settings, lambda records: records.app_admin.get(app_id))
    if product is not None:
        _print_product(product, record, settings[ServerSettings].public_url)
    elif as_json:
        print_json(record.as_dict())
    else:
        _print_fields(record.as_dict())


def _print_product(name: str, record: AppRecord, issuer: str) -> None:
    """Print the configuration, and on standard error what does not fit."""
    name = ALIASES.get(name, name)
    if name not in PRODUCTS:
        usage_error(f"--oidc: {name!r} is unknown; use one of {', '.join([*PRODUCTS, *ALIASES])}")
    if not record.app.redirect_urls:
        callback = PRODUCTS[name].callback or "/callback"
        usage_error(
            "the app has no redirect URL: scan-login app set "
            f"{record.app.id} --redirect-url https://HOST{callback}"
        )
    for problem in find_problems(name, record, issuer):
        print(f"warning: {problem}", file=sys.stderr)
    print(fill_template(name, record.app, issuer), end="")


def _print_fields(fields: Mapping[str, object]) -> None:
    texts = {name: _text(name, value) for name, value in fields.items()}
    width = max(map(len, texts))
    for name, text in texts.items():
        if text:
            print(f"{name.ljust(width)}  {text}")


def _row(fields: Mapping[str, object]) -> list[str]:
    return [_text(name, fields[name]) for name in COLUMNS]


def _text(name: str, value: object) -> str:
    if name in TIMES and isinstance(value, float):
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value)
    return "" if value is None else str(value)
