"""The metadata of the authorization server, RFC 8414: the endpoints and what they accept.

The document describes the whole deployment, including what processes of other roles serve.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from broker.infrastructure.api.endpoint import PUBLIC, Endpoint, Route, bind_endpoints
from broker.infrastructure.api.responses import json_response
from broker.infrastructure.api.schema import ResponseModel
from broker.login.device_api import DEVICE_AUTHORIZATION_PATH, DEVICE_GRANT, TOKEN_PATH
from broker.tokens.issuer import KEY_SET_PATH

METADATA_PATH = "/.well-known/oauth-authorization-server"

METADATA_MAX_AGE = 300
"""Seconds for which a client may cache the document."""

AUTH_METHODS = ("none",)
"""Client authentication at the token endpoint, in RFC 8414's words."""


class MetadataResponse(ResponseModel):
    issuer: str
    token_endpoint: str
    device_authorization_endpoint: str
    jwks_uri: str
    grant_types_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    response_types_supported: list[str]


class DiscoveryAPI:
    """Serves the metadata.  public_url: the issuer."""

    def __init__(self, *, public_url: str) -> None:
        self._public_url = public_url
        self._document = metadata(public_url)

    def routes(self) -> list[Route]:
        """Return the routes.  The issuer's path is a suffix (RFC 8414, section 3.1)."""
        [route] = bind_endpoints(self, ENDPOINTS)
        path = urlsplit(self._public_url).path
        return [route, replace(route, alias=METADATA_PATH + path)] if path else [route]

    async def show(self, http: web.Request) -> web.Response:
        headers: dict[str, str] = {
            hdrs.CACHE_CONTROL: f"public, max-age={METADATA_MAX_AGE}",
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
        }
        return json_response(self._document, headers)


def metadata(public_url: str) -> MetadataResponse:
    return {
        "issuer": public_url,
        "token_endpoint": public_url + TOKEN_PATH,
        "device_authorization_endpoint": public_url + DEVICE_AUTHORIZATION_PATH,
        "jwks_uri": public_url + KEY_SET_PATH,
        "grant_types_supported": [DEVICE_GRANT],
        "token_endpoint_auth_methods_supported": [*AUTH_METHODS],
        # Required by the RFC; empty, because there is no authorization endpoint.
        "response_types_supported": [],
    }


ENDPOINTS = [
    Endpoint(
        "GET",
        METADATA_PATH,
        DiscoveryAPI.show,
        role=PUBLIC,
        summary="The metadata of the authorization server (RFC 8414)",
        response=MetadataResponse,
    ),
]
