"""Pushed authorization requests (RFC 9126)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired

from broker.apps.client_authentication import CLIENT, OAUTH_ERRORS, Client
from broker.infrastructure.api.endpoint import FORM, Endpoint
from broker.infrastructure.api.rate_limit import RateLimiter
from broker.infrastructure.api.schema import Count, RequestFields, ResponseModel
from broker.infrastructure.runtime.drain import DrainGate
from broker.oidc.authorization_errors import (
    RequestNotSupported,
    RequestUriNotSupported,
    UnsupportedResponseType,
)
from broker.oidc.authorize_api import PUSHED_LIFETIME, REQUEST_URI_PREFIX, RequestFactory
from broker.oidc.paths import PUSHED_REQUEST_PATH
from broker.oidc.ports import AuthorizationRequests
from broker.oidc.requests import Fields, find_destination, parse_request


class PushedRequestFields(RequestFields):
    """The fields of an authorization request, and of the client's authentication."""

    redirect_uri: str
    response_type: str
    client_id: NotRequired[str]
    client_secret: NotRequired[str]
    scope: NotRequired[str]
    state: NotRequired[str]
    nonce: NotRequired[str]
    response_mode: NotRequired[str]
    code_challenge: NotRequired[str]
    code_challenge_method: NotRequired[str]
    prompt: NotRequired[str]
    max_age: NotRequired[str]
    id_token_hint: NotRequired[str]
    login_hint: NotRequired[str]
    acr_values: NotRequired[str]
    claims: NotRequired[str]
    ui_locales: NotRequired[str]


class PushedRequestResponse(ResponseModel):
    request_uri: str
    expires_in: Count


class PushedRequestAPI:
    """Stores the authorization requests of authenticated apps.

    begins: limits the requests of one app with a secret.
    anonymous_begins: limits those of an address for public apps, which anyone can push.
    """

    def __init__(
        self,
        *,
        requests: AuthorizationRequests,
        factory: RequestFactory,
        begins: RateLimiter,
        anonymous_begins: RateLimiter,
        drain: DrainGate,
    ) -> None:
        self._requests = requests
        self._factory = factory
        self._begins = begins
        self._anonymous_begins = anonymous_begins
        self._drain = drain

    async def push(self, client: Client, body: Mapping[str, object]) -> PushedRequestResponse:
        """Check and store a request, as `/oauth/authorize` does.

        Raises ClientSecretMissing, InstanceDraining, RateLimited and the errors of the checks.
        """
        client.require_authentication()
        self._drain.check_open()
        app = client.app
        texts = {name: str(value) for name, value in body.items() if name not in SECRET_FIELDS}
        fields = Fields({**texts, "client_id": app.id}.items())
        parsed = parse_request(fields, app, find_destination(fields, app))
        if client.has_secret:
            self._begins.count(app.id)
        else:
            self._anonymous_begins.count(client.caller.ip)
        request = self._factory.create(parsed, app, lifetime=PUSHED_LIFETIME, cookie=None)
        await self._requests.put(request)
        return {"request_uri": REQUEST_URI_PREFIX + request.id, "expires_in": PUSHED_LIFETIME}


SECRET_FIELDS = frozenset({"client_secret"})
"""Fields of the client's authentication. They are not fields of the request."""

ENDPOINTS = [
    Endpoint(
        "POST",
        PUSHED_REQUEST_PATH,
        PushedRequestAPI.push,
        role="oidc",
        auth=CLIENT,
        operation_id="pushAuthorizationRequest",
        summary="Push an authorization request (RFC 9126)",
        request=PushedRequestFields,
        request_in=FORM,
        response=PushedRequestResponse,
        status=201,
        errors=(RequestNotSupported, RequestUriNotSupported, UnsupportedResponseType),
        error_style=OAUTH_ERRORS,
    ),
]
