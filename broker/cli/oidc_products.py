"""Configuration of products that sign people in at the broker by OpenID Connect.

A template in oidc_templates/ is the configuration of one product. `PRODUCTS` has the fields of an
app on which the product depends. The facts are from the documentation of each product.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import NamedTuple
from urllib.parse import urlsplit

from broker.apps.model import App, AppRecord

SECRET_PLACEHOLDER = "REPLACE_WITH_CLIENT_SECRET"  # noqa: S105

PLACEHOLDER_PATTERN = re.compile(r"@(\w+)@")


class Product(NamedTuple):
    """The fields of an app that a product needs.

    callback: the end of its redirect URL; empty if the product accepts any.
    scopes: that its configuration requests.
    is_public: whether it has no secret.
    sends_pkce: whether it works with `pkce: required`.
    needs_rs256: whether it refuses ID tokens with another algorithm by default.
    logout: path of its page after a logout; None if it does not send browsers to the broker's
        logout.
    backchannel: path that receives logout tokens; None if it has none.
    """

    callback: str
    scopes: tuple[str, ...] = ("openid", "profile")
    is_public: bool = False
    sends_pkce: bool = True
    needs_rs256: bool = False
    logout: str | None = None
    backchannel: str | None = None


EMAIL = ("openid", "profile", "email")
REFRESH = ("openid", "profile", "offline_access")

PRODUCTS: Mapping[str, Product] = {
    "apache": Product("", REFRESH, logout="/"),
    "appauth": Product("", REFRESH, is_public=True),
    "argocd": Product("/auth/callback", (*EMAIL, "groups"), sends_pkce=False, logout="/"),
    "aspnet": Product("/signin-oidc", logout="/signout-callback-oidc"),
    "authjs": Product("/auth/callback/scan-login", needs_rs256=True),
    "envoy": Product("", REFRESH, logout="/"),
    "gitea": Product("/user/oauth2/scan-login/callback", EMAIL, sends_pkce=False),
    "gitlab": Product("/users/auth/openid_connect/callback", EMAIL),
    "grafana": Product("/login/generic_oauth", (*EMAIL, "offline_access")),
    "harbor": Product("/c/oidc/callback", (*EMAIL, "offline_access")),
    "home-assistant": Product("/auth/oidc/callback", is_public=True, needs_rs256=True),
    "jupyterhub": Product("/hub/oauth_callback"),
    "kubernetes": Product("", ("openid", "groups", "offline_access"), is_public=True),
    "nextcloud": Product(
        "/apps/user_oidc/code",
        EMAIL,
        logout="/",
        backchannel="/apps/user_oidc/backchannel-logout/scan-login",
    ),
    "nginx": Product("/oauth2/callback", REFRESH),
    "oauth2-proxy": Product("/oauth2/callback", REFRESH),
    "oidc-client-ts": Product("", REFRESH, is_public=True, logout=""),
    "pgadmin": Product("/oauth2/authorize", logout="/"),
    "spring": Product("/login/oauth2/code/scan-login", needs_rs256=True),
    "synapse": Product(
        "/_synapse/client/oidc/callback", backchannel="/_synapse/client/oidc/backchannel_logout"
    ),
    "traefik": Product("/oauth2/callback", REFRESH),
}

ALIASES: Mapping[str, str] = {"nextauth": "authjs"}


def fill_template(name: str, app: App, issuer: str) -> str:
    """Return the configuration of the product `name`; the app has a redirect URL."""
    template = files("broker.cli").joinpath(f"oidc_templates/{name}.txt").read_text("utf-8")
    values = _values(PRODUCTS[name], app, issuer)
    return PLACEHOLDER_PATTERN.sub(lambda match: values[match[1]], template)


def redirect_url_of(product: Product, app: App) -> str:
    """Return the app's redirect URL that fits the product, else its first one."""
    urls = sorted(app.redirect_urls)
    return next((url for url in urls if url.endswith(product.callback)), urls[0])


def _values(product: Product, app: App, issuer: str) -> dict[str, str]:
    redirect_url = redirect_url_of(product, app)
    redirect, provider = urlsplit(redirect_url), urlsplit(issuer)
    default_port = 443 if provider.scheme == "https" else 80
    return {
        "issuer": issuer,
        "issuer_host": provider.hostname or "",
        "issuer_port": str(provider.port or default_port),
        "client_id": app.id,
        "secret": SECRET_PLACEHOLDER,
        "redirect_url": redirect_url,
        "redirect_path": redirect.path or "/",
        "redirect_scheme": redirect.scheme,
        "origin": _origin(redirect_url),
        "host": redirect.hostname or "",
        "scopes": " ".join(product.scopes),
        "scope_list": json.dumps(product.scopes),
    }


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def find_problems(name: str, record: AppRecord, issuer: str) -> Iterator[str]:
    """Yield a line for each thing that keeps the product from working as configured."""
    product, app = PRODUCTS[name], record.app
    if not issuer.startswith("https://"):
        yield f"the issuer {issuer} is not https: set SCAN_LOGIN_PUBLIC_URL"
    yield from _client_problems(name, product, record)
    yield from _redirect_problems(name, product, app)
    if missing := [scope for scope in product.scopes if scope not in app.scopes]:
        options = " ".join(f"--scope {scope}" for scope in [*app.scopes, *missing])
        yield f"scopes: {name} also requests {' '.join(missing)}: {_set(app, options)}"
    if app.refresh == "never" and "offline_access" in product.scopes:
        yield f"refresh: {name} uses refresh tokens: {_set(app, '--refresh offline_access')}"
    if product.needs_rs256 and app.id_token_alg != "RS256":  # noqa: S105
        yield (
            f"id_token_alg: {name} expects RS256 unless configured otherwise: "
            f"{_set(app, '--id-token-alg RS256')}"
        )


def _client_problems(name: str, product: Product, record: AppRecord) -> Iterator[str]:
    app = record.app
    wanted = "public" if product.is_public else "confidential"
    if app.client_type != wanted:
        yield f"client_type: {name} is a {wanted} client: {_set(app, f'--client-type {wanted}')}"
    elif not product.is_public and not record.has_api_secret:
        yield f"the app has no secret: scan-login app rotate-secret {app.id}"
    if app.pkce == "required" and not product.sends_pkce:
        yield f"pkce: {name} may send no PKCE: {_set(app, '--pkce optional')}"


def _redirect_problems(name: str, product: Product, app: App) -> Iterator[str]:
    url = redirect_url_of(product, app)
    origin = _origin(url)
    if not url.endswith(product.callback):
        option = f"--redirect-url {origin}{product.callback}"
        yield f"redirect_urls: {name} needs one that ends {product.callback}: {_set(app, option)}"
    if product.logout is not None and not app.post_logout_urls:
        option = f"--post-logout-url {origin}{product.logout}"
        yield f"post_logout_urls: {name} needs one to return after a logout: {_set(app, option)}"
    if product.backchannel and not app.backchannel_logout_url:
        option = f"--backchannel-logout-url {origin}{product.backchannel}"
        yield f"backchannel_logout_url: {name} receives logouts at one: {_set(app, option)}"


def _set(app: App, options: str) -> str:
    return f"scan-login app set {app.id} {options}"
