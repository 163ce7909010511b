"""Mounts the key set."""

from __future__ import annotations

from typing import Protocol

from broker.infrastructure.api.endpoint import bind_endpoints
from broker.infrastructure.api.mounted import Mounted
from broker.tokens.api import ENDPOINTS, KeySetAPI
from broker.tokens.issuer import TokenIssuer


class TokensContext(Protocol):
    @property
    def token_issuer(self) -> TokenIssuer: ...


def mount(context: TokensContext) -> Mounted:
    return Mounted(routes=bind_endpoints(KeySetAPI(issuer=context.token_issuer), ENDPOINTS))
