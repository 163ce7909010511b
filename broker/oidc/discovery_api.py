"""The metadata: where the endpoints are and what they accept.

One document serves as OpenID Connect Discovery 1.0 and as RFC 8414. It is built from the tables
that the code uses. It describes the whole deployment, including what processes of other roles
serve. Without OpenID Connect it describes the device flow only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NotRequired
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from broker.apps.client_authentication import AUTH_METHODS
from broker.apps.rules import CHOICES
from broker.infrastructure.api.endpoint import PUBLIC, Endpoint, Route, bind_endpoints
from broker.infrastructure.api.openapi import OPENAPI_PATH
from broker.infrastructure.api.responses import json_response
from broker.infrastructure.api.schema import ResponseModel
from broker.login.delivery import DEVICE_AUTHORIZATION_PATH, DEVICE_GRANT
from broker.oidc import paths, rules
from broker.oidc.claims import ID_TOKEN_CLAIMS, SCOPE_CLAIMS
from broker.tokens.issuer import KEY_SET_PATH

OPENID_CONFIGURATION_PATH = "/.well-known/openid-configuration"

METADATA_PATH = "/.well-known/oauth-authorization-server"

METADATA_MAX_AGE = 300
"""Seconds for which a client may cache the document."""

PATHS: Mapping[str, str] = {
    "authorization_endpoint": paths.AUTHORIZATION_PATH,
    "userinfo_endpoint": paths.USERINFO_PATH,
    "end_session_endpoint": paths.END_SESSION_PATH,
    "revocation_endpoint": paths.REVOCATION_PATH,
    "introspection_endpoint": paths.INTROSPECTION_PATH,
    "pushed_authorization_request_endpoint": paths.PUSHED_REQUEST_PATH,
}
"""The endpoints of OpenID Connect."""

VALUES: Mapping[str, tuple[str, ...]] = {
    "scopes_supported": tuple(SCOPE_CLAIMS),
    "response_types_supported": rules.RESPONSE_TYPES,
    "response_modes_supported": rules.RESPONSE_MODES,
    "grant_types_supported": (
        rules.AUTHORIZATION_CODE_GRANT,
        rules.REFRESH_TOKEN_GRANT,
        DEVICE_GRANT,
    ),
    "subject_types_supported": ("public",),
    "id_token_signing_alg_values_supported": CHOICES["id_token_alg"],
    "code_challenge_methods_supported": rules.CHALLENGE_METHODS,
    "claims_supported": tuple(
        dict.fromkeys([*ID_TOKEN_CLAIMS, *(name for one in SCOPE_CLAIMS.values() for name in one)])
    ),
    "prompt_values_supported": rules.PROMPTS,
    "ui_locales_supported": rules.UI_LOCALES,
    "acr_values_supported": rules.ACR_VALUES,
}

FLAGS: Mapping[str, bool] = {
    "claims_parameter_supported": True,
    "request_parameter_supported": False,
    "request_uri_parameter_supported": False,
    "authorization_response_iss_parameter_supported": True,
    "backchannel_logout_supported": True,
    "backchannel_logout_session_supported": True,
}


class MetadataResponse(ResponseModel):
    issuer: str
    token_endpoint: str
    device_authorization_endpoint: str
    jwks_uri: str
    service_documentation: str
    grant_types_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    response_types_supported: list[str]
    authorization_endpoint: NotRequired[str]
    userinfo_endpoint: NotRequired[str]
    end_session_endpoint: NotRequired[str]
    revocation_endpoint: NotRequired[str]
    introspection_endpoint: NotRequired[str]
    pushed_authorization_request_endpoint: NotRequired[str]
    scopes_supported: NotRequired[list[str]]
    response_modes_supported: NotRequired[list[str]]
    subject_types_supported: NotRequired[list[str]]
    id_token_signing_alg_values_supported: NotRequired[list[str]]
    code_challenge_methods_supported: NotRequired[list[str]]
    claims_supported: NotRequired[list[str]]
    prompt_values_supported: NotRequired[list[str]]
    ui_locales_supported: NotRequired[list[str]]
    acr_values_supported: NotRequired[list[str]]
    claims_parameter_supported: NotRequired[bool]
    request_parameter_supported: NotRequired[bool]
    request_uri_parameter_supported: NotRequired[bool]
    authorization_response_iss_parameter_supported: NotRequired[bool]
    backchannel_logout_supported: NotRequired[bool]
    backchannel_logout_session_supported: NotRequired[bool]


class DiscoveryAPI:
    """Serves the metadata.

    public_url: the issuer.
    has_openid: whether the deployment is an OpenID Connect provider.
    """

    def __init__(self, *, public_url: str, has_openid: bool) -> None:
        self._path = urlsplit(public_url).path
        self._has_openid = has_openid
        self._document = metadata(public_url, has_openid=has_openid)

    def routes(self) -> list[Route]:
        """Return the routes.  The issuer's path is a suffix at RFC 8414's (section 3.1)."""
        openid, oauth = bind_endpoints(self, ENDPOINTS)
        routes = [openid, oauth] if self._has_openid else [oauth]
        return [*routes, replace(oauth, alias=METADATA_PATH + self._path)] if self._path else routes

    async def show(self, http: web.Request) -> web.Response:
        headers: dict[str, str] = {
            hdrs.CACHE_CONTROL: f"public, max-age={METADATA_MAX_AGE}",
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
        }
        return json_response(self._document, headers)


def metadata(public_url: str, *, has_openid: bool) -> MetadataResponse:
    document: MetadataResponse = {
        "issuer": public_url,
        "token_endpoint": public_url + paths.TOKEN_PATH,
        "device_authorization_endpoint": public_url + DEVICE_AUTHORIZATION_PATH,
        "jwks_uri": public_url + KEY_SET_PATH,
        "service_documentation": public_url + OPENAPI_PATH,
        "grant_types_supported": [DEVICE_GRANT],
        "token_endpoint_auth_methods_supported": [*AUTH_METHODS],
        # Required by the RFC; empty if there is no authorization endpoint.
        "response_types_supported": [],
    }
    if has_openid:
        urls = {name: public_url + path for name, path in PATHS.items()}
        lists = {name: [*values] for name, values in VALUES.items()}
        document.update({**urls, **lists, **FLAGS})  # type: ignore[typeddict-item]
    return document


def _endpoint(path: str, operation_id: str, summary: str) -> Endpoint:
    return Endpoint(
        "GET",
        path,
        DiscoveryAPI.show,
        role=PUBLIC,
        operation_id=operation_id,
        summary=summary,
        response=MetadataResponse,
    )


ENDPOINTS = [
    _endpoint(
        OPENID_CONFIGURATION_PATH,
        "getOpenIDConfiguration",
        "The metadata of the OpenID Connect provider",
    ),
    _endpoint(
        METADATA_PATH, "getServerMetadata", "The metadata of the authorization server (RFC 8414)"
    ),
]
