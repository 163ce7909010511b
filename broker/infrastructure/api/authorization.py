"""Authorization of operators at the admin port: by the admin token, or by their own sign-in."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog
from aiohttp import hdrs, web

from broker.errors import BrokerError, RateLimited
from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.api.endpoint import Auth, Operation
from broker.infrastructure.api.rate_limit import RateLimiter

log = structlog.get_logger()

TOKEN_ACTOR = "token"  # noqa: S105 - a word of the audit log
"""The actor of an act with the admin token, which several people may have."""

READS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


class AdminTokenMissing(BrokerError):
    error, status = "invalid_client", 401
    description = "send `Authorization: Bearer` with the value of SCAN_LOGIN_ADMIN_TOKEN"


class InvalidAdminToken(AdminTokenMissing):
    """Counts as a failed attempt. Pages of other origins can send requests without a token only."""

    counts_as_guess = True


OPERATOR = Auth(
    {
        "adminToken": {
            "type": "http",
            "scheme": "bearer",
            "description": "the value of `SCAN_LOGIN_ADMIN_TOKEN`, or an operator's access token",
        }
    },
    alternatives=(("adminToken",),),
    errors=(AdminTokenMissing, InvalidAdminToken, RateLimited),
)
"""The admin token, or an access token of an operator, at the admin port."""


RECORDED = Auth(OPERATOR.schemes, OPERATOR.alternatives, OPERATOR.errors)
"""The same, for a read that is recorded like a change."""


class OperatorAct(NamedTuple):
    """A change by an operator, or a recorded read.

    actor: the subject of the operator, or `TOKEN_ACTOR`.
    act: the method and path of the endpoint, such as `DELETE /apps/{id}`.
    target: the id of what was changed; empty if there is none.
    ip: the address of the operator.
    """

    actor: str
    act: str
    target: str
    ip: str


FindOperator = Callable[[str], Awaitable[str | None]]
"""Returns the subject of an operator's access token, or None for any other text."""


class OperatorAuthenticator:
    """Authenticates operators, and records their acts.

    token: the admin token.
    find_operator: accepts the access tokens of operators.
    record: receives each act that has succeeded, or that failed and may have changed something.
    """

    def __init__(
        self,
        *,
        token: str,
        find_operator: FindOperator,
        record: Callable[[OperatorAct], None],
        failures: RateLimiter,
        addresses: ClientAddresses,
    ) -> None:
        self._token = token
        self._find_operator = find_operator
        self._record = record
        self._failures = failures
        self._addresses = addresses

    async def authenticate(self, http: web.Request, operation: Operation) -> object:
        """Call the handler of an endpoint, and record a change. This is an `Authenticator`.

        Raises AdminTokenMissing, InvalidAdminToken, and RateLimited for too many failed attempts.
        """
        return await self._call(http, operation, is_recorded=http.method not in READS)

    async def authenticate_recorded(self, http: web.Request, operation: Operation) -> object:
        """Do the same for `RECORDED` endpoints, whose calls are all recorded."""
        return await self._call(http, operation, is_recorded=True)

    async def _call(self, http: web.Request, operation: Operation, *, is_recorded: bool) -> object:
        scheme, _, bearer = http.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() != "bearer" or not bearer.strip():
            raise AdminTokenMissing
        address = self._addresses.of(http)
        with self._failures.counting_failures(address):
            actor = await self._actor(bearer.strip())
        payload = await operation.read(http)
        try:
            result = await operation.call(payload=payload, path=http.match_info)
        except BaseException as error:
            if is_recorded and not is_refusal(error):
                self._record_act(actor, http, None, address)
            raise
        if is_recorded:
            self._record_act(actor, http, result, address)
        return result

    async def _actor(self, bearer: str) -> str:
        if is_secret(bearer, self._token):
            return TOKEN_ACTOR
        subject = await self._find_operator(bearer)
        if subject is None:
            raise InvalidAdminToken
        return subject

    def _record_act(self, actor: str, http: web.Request, result: object, address: str) -> None:
        resource = http.match_info.route.resource
        path = http.path if resource is None else resource.canonical
        target = next(iter(http.match_info.values()), "")
        if not target and isinstance(result, dict):
            target = str(result.get("id", ""))
        act = OperatorAct(actor, f"{http.method} {path}", target, address)
        log.info("admin act", actor=actor, act=act.act, target=target)
        self._record(act)


def is_refusal(error: BaseException) -> bool:
    """Return whether the error means that a handler has changed nothing."""
    return isinstance(error, BrokerError) and error.status < 500


def is_secret(value: str, secret: str) -> bool:
    """Compare a header's value with the secret.  aiohttp escapes bytes that are not UTF-8."""
    return hmac.compare_digest(value.encode(errors="surrogateescape"), secret.encode())
