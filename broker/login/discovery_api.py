"""The authorization server's metadata, RFC 8414: the endpoints and what they accept.

It describes the whole deployment, also what processes of other roles serve.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import hdrs, web

from broker.infrastructure.api.responses import Payload, json_response
from broker.login.device_api import AUTH_METHODS, DEVICE_GRANT, ENDPOINTS
from broker.tokens.issuer import KEY_SET_PATH

WELL_KNOWN = "/.well-known/oauth-authorization-server"

METADATA_MAX_AGE = 300
"""Seconds for which a client may keep the document."""


def metadata_routes(public_url: str) -> list[web.RouteDef]:
    """RFC 8414, section 3.1: an issuer's path follows the well-known part."""
    document = metadata(public_url)
    headers: dict[str, str] = {
        hdrs.CACHE_CONTROL: f"public, max-age={METADATA_MAX_AGE}",
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
    }

    async def show(request: web.Request) -> web.Response:
        return json_response(document, headers)

    paths = {WELL_KNOWN, WELL_KNOWN + urlsplit(public_url).path}
    return [web.get(path, show) for path in sorted(paths)]


def metadata(public_url: str) -> Payload:
    return {
        "issuer": public_url,
        **{name: public_url + path for name, path in ENDPOINTS.items()},
        "jwks_uri": public_url + KEY_SET_PATH,
        "grant_types_supported": [DEVICE_GRANT],
        "token_endpoint_auth_methods_supported": list(AUTH_METHODS),
        # Required by the RFC; empty, because there is no authorization endpoint.
        "response_types_supported": [],
    }
