"""Mounts the key set, and the administration of keys."""

from __future__ import annotations

import time
from typing import Protocol

from broker.infrastructure.api.authorization import OPERATOR, OperatorAuthenticator
from broker.infrastructure.api.endpoint import bind_endpoints
from broker.infrastructure.api.mounted import Mounted
from broker.infrastructure.crypto.sealing import SecretBox
from broker.tokens import admin_api
from broker.tokens.admin_api import KeysAdminAPI
from broker.tokens.api import ENDPOINTS, KeySetAPI
from broker.tokens.issuer import TokenIssuer


class TokensContext(Protocol):
    @property
    def token_issuer(self) -> TokenIssuer: ...
    @property
    def secret_box(self) -> SecretBox: ...
    @property
    def operators(self) -> OperatorAuthenticator | None: ...


def mount(context: TokensContext) -> Mounted:
    routes = bind_endpoints(KeySetAPI(issuer=context.token_issuer), ENDPOINTS)
    if context.operators is None:
        return Mounted(routes=routes)
    api = KeysAdminAPI(
        issuer=context.token_issuer,
        seal_key_ids=lambda: context.secret_box.ids,
        clock=time.time,
    )
    operator = {OPERATOR: context.operators.authenticate}
    admin_routes = bind_endpoints(api, admin_api.ENDPOINTS, operator)
    return Mounted(routes=routes, admin_routes=admin_routes)
