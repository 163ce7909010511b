"""Products of the demo that sign in with OpenID Connect: the example site and a gateway."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from broker.apps.model import DEFAULT_APP
from broker.backends import open_records
from broker.cli.demo import gateway
from broker.infrastructure.settings import Settings
from web_demo.oidc import OIDCClient

SITE_APP = "example"

COMMON: Mapping[str, object] = {
    "phone_app": DEFAULT_APP,
    "scopes": ("openid", "profile", "offline_access"),
    "sso": True,
}


class Products(NamedTuple):
    """site: the example site as a client. gateway_secret: of the gateway's app."""

    site: OIDCClient
    gateway_secret: str


async def add_products(
    settings: Settings, *, issuer: str, site_url: str, gateway_url: str
) -> Products:
    """Add an app for each product to the records."""
    apps: Mapping[str, Mapping[str, object]] = {
        SITE_APP: {
            "name": "Example site",
            "redirect_urls": [f"{site_url}/oidc/callback"],
            "post_logout_urls": [f"{site_url}/"],
            "backchannel_logout_url": f"{site_url}/oidc/backchannel-logout",
            "home_url": f"{site_url}/",
        },
        gateway.APP_ID: {
            "name": "Gateway",
            "redirect_urls": [f"{gateway_url}/callback"],
            "post_logout_urls": [f"{gateway_url}/"],
            "home_url": f"{gateway_url}/",
        },
    }
    records = open_records(settings, time.time)
    await records.open()
    try:
        for app_id, fields in apps.items():
            await records.app_admin.add(app_id, {**COMMON, **fields})
        secrets = [await records.app_admin.rotate_secret(app_id) for app_id in apps]
    finally:
        await records.close()
    site_secret, gateway_secret = secrets
    site = OIDCClient(
        issuer=issuer, client_id=SITE_APP, client_secret=site_secret, site_url=site_url
    )
    return Products(site, gateway_secret)
