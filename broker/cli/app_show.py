"""`scan-login app list` and `app show`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from broker.apps.model import DEFAULT_APP, AppRecord
from broker.cli.app_options import IdArgument
from broker.cli.oidc_products import ALIASES, PRODUCTS, fill_template, find_problems
from broker.cli.output import (
    Columns,
    Item,
    JSONOption,
    field,
    print_item,
    print_list,
    time_of,
)
from broker.cli.support import ConfigFile, read_settings, usage_error, with_records
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

COLUMNS: Columns = {
    **{name: field(name) for name in ("id", "name", "client_type", "provider", "has_api_secret")},
    "changed": time_of("changed_at"),
}

FROM_SETTINGS: Item = {"id": DEFAULT_APP, "name": "from the settings"}
"""The row of the app that the settings define; JSON has the apps in the records only."""

TIMES = ("created_at", "changed_at")


def list_apps(
    name: Annotated[
        str | None, typer.Option(help="Apps whose name or id contains this text only.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Apps with this provider only.")] = None,
    as_json: JSONOption = False,
    file: ConfigFile = None,
) -> None:
    """Print all apps. Secrets are not printed, only whether an app has one."""
    found = with_records(read_settings(file), lambda records: records.app_admin.list())
    apps = [
        app.as_dict()
        for app in found
        if (name is None or name.lower() in f"{app.app.id}\n{app.app.name}".lower())
        and provider in (None, app.app.provider)
    ]
    is_filtered = name is not None or provider is not None
    rows = apps if as_json or is_filtered else [*apps, FROM_SETTINGS]
    print_list(rows, COLUMNS, as_json=as_json)


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
    else:
        print_item(record.as_dict(), as_json=as_json, times=TIMES)


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
