"""The options of `scan-login app add` and `app set`, one for each field of an app."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from broker.apps.model import DEFAULT_APP
from broker.apps.rules import CODE_SOURCES, FILE_TYPES, LIFETIME_MAX
from broker.cli.options import takes_options

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


ClientTypeOption = Annotated[
    str | None, typer.Option(help="confidential, with a secret, or public.", show_default=False)
]

HomeUrlOption = Annotated[
    str | None,
    typer.Option(help="Start page of the app, to which error pages link.", show_default=False),
]

PostLogoutUrlOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Exact URL to which browsers may be redirected after a logout; repeat it for several.",
        show_default=False,
    ),
]

BackchannelLogoutUrlOption = Annotated[
    str | None, typer.Option(help="URL that receives logout tokens.", show_default=False)
]

ScopeOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Scope that tokens of the app may have; repeat it for several.", show_default=False
    ),
]

IdTokenAlgOption = Annotated[
    str | None, typer.Option(help="Algorithm of ID tokens: RS256 or ES256.", show_default=False)
]

IdTokenClaimsOption = Annotated[
    str | None, typer.Option(help="Claims in ID tokens: full or lean.", show_default=False)
]

PkceOption = Annotated[
    str | None,
    typer.Option(
        help="PKCE: optional or required. Public apps always need it.", show_default=False
    ),
]

RefreshOption = Annotated[
    str | None,
    typer.Option(
        help="Condition for refresh tokens: offline_access, always or never.", show_default=False
    ),
]

ReuseOption = Annotated[
    str | None,
    typer.Option(
        help="Ended by the reuse of a refresh token: family or signin.", show_default=False
    ),
]

SsoOption = Annotated[
    bool | None,
    typer.Option(
        help="Accept a sign-in at another app with SSO, without a scan.",
        show_default=False,
    ),
]

LoopbackOption = Annotated[
    bool | None,
    typer.Option(help="Accept any port in a loopback redirect URL.", show_default=False),
]

PhoneAppOption = Annotated[
    str | None,
    typer.Option(
        help="Id of the app whose phones scan the codes of this one; default: its own.",
        show_default=False,
    ),
]

MatchOption = Annotated[
    str | None,
    typer.Option(help="Match of browser and phone: off, number or code.", show_default=False),
]

ShowScannerOption = Annotated[
    str | None,
    typer.Option(
        help="Shown by the browser of the person who scanned: off, name or picture.",
        show_default=False,
    ),
]

LogoUrlOption = Annotated[
    str | None, typer.Option(help="Logo that the browser shows.", show_default=False)
]

OpenUrlOption = Annotated[
    str | None,
    typer.Option(help="URL that opens the phone app at a login, with {scene}.", show_default=False),
]

NetworkOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Network in CIDR notation from which a login may begin; repeat it for several.",
        show_default=False,
    ),
]

EventsUrlOption = Annotated[
    str | None, typer.Option(help="URL that receives webhook events.", show_default=False)
]

TunnelUrlOption = Annotated[
    str | None,
    typer.Option(help="URL that receives the callbacks of tunnels.", show_default=False),
]

WaferHostOption = Annotated[
    str | None,
    typer.Option(help="ServerHost of the app's Wafer server SDK.", show_default=False),
]

WaferKeyOption = Annotated[
    bool | None,
    typer.Option(
        "--wafer-key/--no-wafer-key",
        help="Read the TunnelSignatureKey of the app's Wafer server SDK from standard input; on a "
        "terminal, ask for it without echo. --no-wafer-key deletes it.",
        show_default=False,
    ),
]

RoomsOption = Annotated[
    str | None,
    typer.Option(
        help="Chat rooms: none, open, or the URL of the webhook that admits people.",
        show_default=False,
    ),
]

ModeratorOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Subject that may moderate every chat room of the app; repeat it for several.",
        show_default=False,
    ),
]

FilesTypeOption = Annotated[
    list[str] | None,
    typer.Option(
        help=f"Type of files that the app accepts: {', '.join(FILE_TYPES)}; repeat it for several.",
        show_default=False,
    ),
]

FilesMaxOption = Annotated[
    int | None,
    typer.Option(help="Bytes of a file; 0 uses the setting.", show_default=False),
]

FilesLifetimeOption = Annotated[
    int | None,
    typer.Option(help="Seconds for which a file is kept; 0 uses the setting.", show_default=False),
]

FilesUrlOption = Annotated[
    str | None,
    typer.Option(help="URL that receives file.offered before a file is kept.", show_default=False),
]

OIDCOption = Annotated[
    bool,
    typer.Option(
        "--oidc",
        help="Prepare the app for a product that signs in by OpenID Connect: print its secret, "
        f"and let the phones of {DEFAULT_APP} scan its codes if it has no provider account.",
    ),
]

FIELD_OPTIONS: Mapping[str, Any] = {
    "name": NameOption,
    "origin": OriginOption,
    "redirect_url": RedirectUrlOption,
    "register_url": RegisterUrlOption,
    "provider": ProviderOption,
    "provider_app_id": ProviderAppIdOption,
    "code_source": CodeSourceOption,
    "login_lifetime": LoginLifetimeOption,
    "secret": SecretOption,
    "client_type": ClientTypeOption,
    "home_url": HomeUrlOption,
    "post_logout_url": PostLogoutUrlOption,
    "backchannel_logout_url": BackchannelLogoutUrlOption,
    "scope": ScopeOption,
    "id_token_alg": IdTokenAlgOption,
    "id_token_claims": IdTokenClaimsOption,
    "pkce": PkceOption,
    "refresh": RefreshOption,
    "reuse": ReuseOption,
    "sso": SsoOption,
    "loopback": LoopbackOption,
    "phone_app": PhoneAppOption,
    "match": MatchOption,
    "show_scanner": ShowScannerOption,
    "logo_url": LogoUrlOption,
    "open_url": OpenUrlOption,
    "network": NetworkOption,
    "events_url": EventsUrlOption,
    "tunnel_url": TunnelUrlOption,
    "wafer_host": WaferHostOption,
    "wafer_key": WaferKeyOption,
    "rooms": RoomsOption,
    "moderator": ModeratorOption,
    "files_type": FilesTypeOption,
    "files_max": FilesMaxOption,
    "files_lifetime": FilesLifetimeOption,
    "files_url": FilesUrlOption,
}
"""The options in the order of the help. None as their value means that an option is not given."""

takes_fields = takes_options(FIELD_OPTIONS)
