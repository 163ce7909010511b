"""Apps: the sites and mini programs that log users in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from broker.infrastructure.api.schema import ResponseModel

DEFAULT_APP = "default"
"""The id of the app that the settings define."""

ADMIN_APP = "scan-login-admin"
"""The id of the app with which operators sign in to the admin page."""

DEFAULT_SCOPES = ("openid", "profile")

DEFAULT_FILE_TYPES = ("jpeg", "png", "gif", "webp", "mp4", "pdf")

APP_KEY_MAX = 64
"""Characters of an app key: as many as of an app id."""


def app_key(app_id: str, incarnation: str) -> str:
    """Return the key under which an app's codes are stored. No two apps have the same key.

    It is the id alone for the app of the settings and for apps that were recorded before
    incarnations were. No id contains a tilde.
    """
    if not incarnation:
        return app_id
    return f"{app_id[: APP_KEY_MAX - 1 - len(incarnation)]}~{incarnation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A site or mini program that logs users in.

    id: the id that browsers and phones send; the audience of tokens.
    name: shown on the phone before the user confirms.
    origins: exact Origins whose pages may begin a login (`https://shop.example`).
    register_url: where unregistered users are sent; None if users cannot register.
    redirect_urls: exact URLs that a browser may be sent to with the result of a login.
    provider: name of the provider that draws its codes and verifies its phones.
    provider_app_id: the provider's id of the app (WeChat: `appid`); may be empty.
    code_source: `live`, a code drawn for each login, or `pool`, codes drawn in advance.
    login_lifetime: seconds in which a code may be scanned and confirmed; None for the default
        of the settings.
    client_type: `confidential`, which has a secret, or `public` (RFC 6749, section 2.1).
    home_url: the app's start page; None if it has none.
    post_logout_urls: exact URLs that a browser may be sent to after a logout.
    backchannel_logout_url: receives logout tokens; None if the app has none.
    scopes: the most that a token of this app may have, and what the phone shows.
    id_token_alg: `RS256` or `ES256`.
    id_token_claims: `full`, or `lean` for an ID token without the claims of the scopes.
    pkce: `optional` or `required`; always required for a public app.
    refresh: when refresh tokens are issued: `offline_access` (if that scope was granted),
        `always` or `never`.
    reuse: what the reuse of a refresh token ends: its `family`, or also the `signin`.
    sso: whether a sign-in session of another app with `sso` may complete a request without a
        scan, and the reverse.
    loopback: whether the port of a loopback redirect URL may differ (RFC 8252, section 7.3).
    phone_app: id of the app whose phones scan its codes; empty for its own.
    match: `off`, `number` or `code`: what the user compares or types.
    show_scanner: `off`, `name` or `picture`: what the browser shows of the person who scanned.
    logo_url: its logo, which the browser shows; None if it has none.
    open_url: opens the phone app at a login, with `{scene}`; None for that of its `phone_app`, or
        else the link of the provider.
    networks: CIDR networks from which a login may begin; empty for all.
    events_url: receives webhook events such as `login.reported`; None if the app has none.
    tunnel_url: receives the callbacks of tunnels; None if the app has none.
    wafer_host: the `ServerHost` of its Wafer server SDK; empty if it has none.
    rooms: who may join chat rooms: `none`, `open` for everyone who has logged in, or the URL of
        the webhook that admits people.
    moderators: subjects that may moderate every chat room of the app.
    files_types: types of files that it accepts, names in `FILE_TYPES`.
    files_max: bytes of a file; None for the setting.
    files_lifetime: seconds for which a file is kept; None for the setting.
    files_url: receives `file.offered` before a file is kept; None if the app keeps every file.
    incarnation: random; an app that is removed and added again under its id gets another one and
        is a different app. Empty for the app of the settings, and for apps that are older than
        this field.
    """

    id: str
    name: str
    origins: frozenset[str]
    register_url: str | None = None
    redirect_urls: frozenset[str] = frozenset()
    provider: str = "pretend"
    provider_app_id: str = ""
    code_source: str = "live"
    login_lifetime: int | None = None
    client_type: str = "confidential"
    home_url: str | None = None
    post_logout_urls: frozenset[str] = frozenset()
    backchannel_logout_url: str | None = None
    scopes: tuple[str, ...] = DEFAULT_SCOPES
    id_token_alg: str = "RS256"  # noqa: S105
    id_token_claims: str = "full"  # noqa: S105
    pkce: str = "optional"
    refresh: str = "offline_access"
    reuse: str = "family"
    sso: bool = False
    loopback: bool = False
    phone_app: str = ""
    match: str = "off"
    show_scanner: str = "off"
    logo_url: str | None = None
    open_url: str | None = None
    networks: tuple[str, ...] = ()
    events_url: str | None = None
    tunnel_url: str | None = None
    wafer_host: str = ""
    rooms: str = "none"
    moderators: tuple[str, ...] = ()
    files_types: tuple[str, ...] = DEFAULT_FILE_TYPES
    files_max: int | None = None
    files_lifetime: int | None = None
    files_url: str | None = None
    incarnation: str = ""

    @property
    def scanned_by(self) -> str:
        """The id of the app whose phones scan its codes."""
        return self.phone_app or self.id

    @property
    def key(self) -> str:
        """The key of its codes in the state and in the records."""
        return app_key(self.id, self.incarnation)


OPTION_FIELDS = (
    "client_type",
    "home_url",
    "post_logout_urls",
    "backchannel_logout_url",
    "scopes",
    "id_token_alg",
    "id_token_claims",
    "pkce",
    "refresh",
    "reuse",
    "sso",
    "loopback",
    "phone_app",
    "match",
    "show_scanner",
    "logo_url",
    "open_url",
    "networks",
    "events_url",
    "tunnel_url",
    "wafer_host",
    "rooms",
    "moderators",
    "files_types",
    "files_max",
    "files_lifetime",
    "files_url",
)
"""Fields that the records keep together, without a column for each."""


class AppOptionsResponse(ResponseModel):
    """The fields in `OPTION_FIELDS`."""

    client_type: str
    home_url: str | None
    post_logout_urls: list[str]
    backchannel_logout_url: str | None
    scopes: list[str]
    id_token_alg: str
    id_token_claims: str
    pkce: str
    refresh: str
    reuse: str
    sso: bool
    loopback: bool
    phone_app: str
    match: str
    show_scanner: str
    logo_url: str | None
    open_url: str | None
    networks: list[str]
    events_url: str | None
    tunnel_url: str | None
    wafer_host: str
    rooms: str
    moderators: list[str]
    files_types: list[str]
    files_max: int | None
    files_lifetime: int | None
    files_url: str | None


class AppResponse(AppOptionsResponse):
    """The public fields of an app.  created_at, changed_at: Unix time in seconds."""

    id: str
    name: str
    provider: str
    provider_app_id: str
    has_provider_secret: bool
    has_api_secret: bool
    has_wafer_key: bool
    origins: list[str]
    redirect_urls: list[str]
    register_url: str | None
    code_source: str
    login_lifetime: int | None
    created_at: float
    changed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRecord:
    """An app in the records. created_at, changed_at: Unix time in seconds."""

    app: App
    has_provider_secret: bool
    has_api_secret: bool
    has_wafer_key: bool
    created_at: float
    changed_at: float

    def as_dict(self) -> AppResponse:
        """Return the public fields."""
        app = self.app
        return {
            "id": app.id,
            "name": app.name,
            "provider": app.provider,
            "provider_app_id": app.provider_app_id,
            "has_provider_secret": self.has_provider_secret,
            "has_api_secret": self.has_api_secret,
            "has_wafer_key": self.has_wafer_key,
            "origins": sorted(app.origins),
            "redirect_urls": sorted(app.redirect_urls),
            "register_url": app.register_url,
            "code_source": app.code_source,
            "login_lifetime": app.login_lifetime,
            "created_at": self.created_at,
            "changed_at": self.changed_at,
            **option_values(app),
        }


def option_values(app: App) -> AppOptionsResponse:
    """Return the fields in `OPTION_FIELDS` as JSON values."""
    return {
        "client_type": app.client_type,
        "home_url": app.home_url,
        "post_logout_urls": sorted(app.post_logout_urls),
        "backchannel_logout_url": app.backchannel_logout_url,
        "scopes": list(app.scopes),
        "id_token_alg": app.id_token_alg,
        "id_token_claims": app.id_token_claims,
        "pkce": app.pkce,
        "refresh": app.refresh,
        "reuse": app.reuse,
        "sso": app.sso,
        "loopback": app.loopback,
        "phone_app": app.phone_app,
        "match": app.match,
        "show_scanner": app.show_scanner,
        "logo_url": app.logo_url,
        "open_url": app.open_url,
        "networks": list(app.networks),
        "events_url": app.events_url,
        "tunnel_url": app.tunnel_url,
        "wafer_host": app.wafer_host,
        "rooms": app.rooms,
        "moderators": list(app.moderators),
        "files_types": list(app.files_types),
        "files_max": app.files_max,
        "files_lifetime": app.files_lifetime,
        "files_url": app.files_url,
    }


def parse_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `option_values` as arguments of `App`; unknown names are left out."""
    known = {name: value for name, value in values.items() if name in OPTION_FIELDS}
    return {
        name: OPTION_COLLECTIONS[name](value) if name in OPTION_COLLECTIONS else value
        for name, value in known.items()
    }


OPTION_COLLECTIONS: Mapping[str, Callable[[Iterable[str]], Collection[str]]] = {
    "post_logout_urls": frozenset,
    "scopes": tuple,
    "networks": tuple,
    "moderators": tuple,
    "files_types": tuple,
}


def hash_api_secret(secret: str) -> bytes:
    """Hash a secret of 256 random bits, which needs no slow hash."""
    return hashlib.sha256(secret.encode()).digest()
