"""The JSON Web Key Set endpoint."""

from __future__ import annotations

from aiohttp import hdrs, web

from broker.infrastructure.api.endpoint import PUBLIC, Endpoint
from broker.infrastructure.api.responses import json_response
from broker.infrastructure.api.schema import ResponseModel
from broker.tokens.issuer import KEY_SET_PATH, TokenIssuer
from broker.tokens.keys import KEY_SET_MAX_AGE, Jwk


class KeySetResponse(ResponseModel):
    keys: list[Jwk]


class KeySetAPI:
    def __init__(self, *, issuer: TokenIssuer) -> None:
        self._issuer = issuer

    async def key_set(self, request: web.Request) -> web.Response:
        headers: dict[str, str] = {
            hdrs.CACHE_CONTROL: f"public, max-age={KEY_SET_MAX_AGE}",
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
        }
        return json_response(self._issuer.key_set(), headers)


ENDPOINTS = [
    Endpoint(
        "GET",
        KEY_SET_PATH,
        KeySetAPI.key_set,
        role=PUBLIC,
        operation_id="getKeySet",
        summary="The keys that verify tokens (RFC 7517)",
        response=KeySetResponse,
    ),
]
