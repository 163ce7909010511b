"""Every call over HTTP: what it asks, what it gives, and with which words it fails.

One line for each, by method and path as the routes have them; `openapi.py` makes the
description of them.  A call without a line here fails a test, and so does a line
without a call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import broker.users.errors  # noqa: F401 - the classes are found by word
from broker.apps.authentication import SERVER as SERVER_AUTH
from broker.errors import BrokerError
from broker.infrastructure.api.authorization import OPERATOR as OPERATOR_AUTH
from broker.infrastructure.api.endpoint import NO_AUTH, QUERY, Endpoint, ErrorStyle, Schema
from broker.infrastructure.api.schema import RequestModel
from broker.login.device_api import (
    AUTH_SCHEME,
    DeviceAuthorizationRequest,
    TokenRequest,
    oauth_status,
)
from broker.login.phone_api import DecisionRequest, ScanRequest
from broker.sessions.authentication import PHONE as PHONE_AUTH
from broker.sessions.phone_api import OpenSessionRequest
from broker.sessions.server_api import (
    AppSessionRequest,
    DecryptRequest,
    EndAllRequest,
    OpenAppSessionRequest,
    VerifyRequest,
)
from broker.users.phone_api import RegisterRequest

TEXT: Schema = {"type": "string"}

TEXTS: Schema = {"type": "array", "items": TEXT}

COUNT: Schema = {"type": "integer", "minimum": 0}

YES_OR_NO: Schema = {"type": "boolean"}

TIME: Schema = {"type": "number"}


def either(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def fields(optional: Mapping[str, Schema] | None = None, /, **required: Schema) -> Schema:
    """An object of exactly these."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


NOTHING: Schema = {"type": "null"}

OBJECT: Schema = {"type": "object"}

STATED = fields(login_id=TEXT, state=TEXT)

SCANNED = fields(
    login_id=TEXT,
    state=TEXT,
    expires_in=COUNT,
    app=fields(id=TEXT, name=TEXT),
    browser=fields(ip=TEXT, user_agent=TEXT, since=COUNT),
)

SESSION = {"id": TEXT, "skey": TEXT, "expires_in": COUNT}

PERSON = {"unionid": TEXT, "subject": TEXT}

ENDED = fields(ended=COUNT)

BEGUN = fields(
    device_code=TEXT,
    user_code=TEXT,
    verification_uri=TEXT,
    verification_uri_complete=TEXT,
    expires_in=COUNT,
    interval=COUNT,
    login_id=TEXT,
    code_url=TEXT,
)

METADATA = fields(
    issuer=TEXT,
    token_endpoint=TEXT,
    device_authorization_endpoint=TEXT,
    jwks_uri=TEXT,
    grant_types_supported=TEXTS,
    token_endpoint_auth_methods_supported=TEXTS,
    response_types_supported=TEXTS,
)

TOKEN = fields(access_token=TEXT, token_type={"const": "Bearer"}, expires_in=COUNT, subject=TEXT)


class Call(NamedTuple):
    """words: of failures, beside those that any call may meet.  by: who may call.

    gives: a schema, or the media type of what is no JSON.  ask_by: the media type of a body.
    query: names that may stand in it.  missing: the media type of a 404 that is no JSON.
    """

    summary: str
    asks: type[RequestModel] | Schema | None = None
    gives: Schema | str | None = None
    words: str = ""
    by: str = "anybody"
    status: int = 200
    ask_by: str = "application/json"
    query: tuple[str, ...] = ()
    missing: str = ""


FORM = "application/x-www-form-urlencoded"

PHONE = "invalid_client invalid_session rate_limited"

SERVER = "invalid_client invalid_session rate_limited"


OPENING = "invalid_client invalid_session rate_limited access_denied"

SCANNING = f"{PHONE} unknown_scene already_scanned invalid_state expired_token"

DECIDING = f"{PHONE} invalid_grant access_denied invalid_state expired_token"

TOKENS = (
    "invalid_client unsupported_grant_type invalid_grant authorization_pending slow_down "
    "access_denied expired_token rate_limited"
)

CALLS: Mapping[str, Call] = {
    "GET /.well-known/oauth-authorization-server": Call(
        "The authorization server's metadata (RFC 8414)", gives=METADATA
    ),
    "GET /openapi.json": Call("This description", gives=OBJECT),
    "POST /phone/session": Call("Log a phone in", OpenSessionRequest, fields(**SESSION), OPENING),
    "DELETE /phone/session": Call("Sign this phone out", None, ENDED, PHONE, "phone"),
    "DELETE /phone/sessions": Call(
        "Sign out all phones of this person in the app", None, ENDED, PHONE, "phone"
    ),
    "POST /phone/scan": Call(
        "Scan a code; the answer is what the person must see",
        ScanRequest,
        SCANNED,
        SCANNING,
        "phone",
    ),
    "POST /phone/confirm": Call(
        "Let the browser in", DecisionRequest, STATED, f"{DECIDING} unregistered_user", "phone"
    ),
    "POST /phone/deny": Call("Keep the browser out", DecisionRequest, STATED, DECIDING, "phone"),
    "POST /phone/register": Call(
        "Make this phone's person the user who was invited",
        RegisterRequest,
        fields(subject=TEXT, name=either(TEXT, NOTHING)),
        f"{PHONE} invalid_grant access_denied invalid_state identity_taken",
        "phone",
    ),
    "POST /sessions": Call(
        "Log a phone in",
        OpenAppSessionRequest,
        fields(PERSON, **SESSION, app=TEXT, openid=TEXT),
        f"{SERVER} access_denied",
        "server",
    ),
    "POST /sessions/check": Call(
        "Who a session is; counts as a use",
        AppSessionRequest,
        fields(PERSON, app=TEXT, openid=TEXT, expires_in=COUNT),
        SERVER,
        "server",
    ),
    "POST /sessions/verify": Call(
        "Whether the phone's mini program signed raw_data",
        VerifyRequest,
        fields(valid=YES_OR_NO),
        SERVER,
        "server",
    ),
    "POST /sessions/decrypt": Call(
        "What the provider encrypted for the phone",
        DecryptRequest,
        fields(data=OBJECT),
        SERVER,
        "server",
    ),
    "POST /sessions/end": Call("End a session", AppSessionRequest, ENDED, SERVER, "server"),
    "POST /sessions/end-all": Call(
        "End all sessions of a person in the app", EndAllRequest, ENDED, SERVER, "server"
    ),
    "POST /oauth/device_authorization": Call(
        "Begin a login (RFC 8628)",
        DeviceAuthorizationRequest,
        BEGUN,
        "invalid_client rate_limited",
        ask_by=FORM,
    ),
    "POST /oauth/token": Call(
        "The token, or how far the login is (RFC 8628)", TokenRequest, TOKEN, TOKENS, ask_by=FORM
    ),
    "GET /device": Call(
        "The page of a device's code",
        gives="text/html",
        words="rate_limited",
        query=("user_code",),
        missing="text/html",
    ),
}


def _endpoint(name: str, call: Call) -> Endpoint:
    method, path = name.split(" ")
    request: Any = call.asks
    if call.query:
        request = fields(dict.fromkeys(call.query, TEXT))
    return Endpoint(
        method,
        path,
        _not_declared,
        role="",
        summary=call.summary,
        auth=AUTHS[call.by],
        request=request,
        request_in=QUERY if call.query else call.ask_by,
        response=call.gives,
        errors=tuple(ERRORS_BY_WORD[word] for word in call.words.split()),
        status=call.status,
        not_found_type=call.missing or None,
        error_style=ErrorStyle(oauth_status, AUTH_SCHEME) if "POST /oauth/" in name else None,
    )


async def _not_declared() -> None:
    """In place of a handler."""


def _kinds(kind: type[BrokerError] = BrokerError) -> Iterator[type[BrokerError]]:
    for below in kind.__subclasses__():
        if "error" in vars(below):
            yield below
        yield from _kinds(below)


ERRORS_BY_WORD = {kind.error: kind for kind in _kinds()}

AUTHS = {"anybody": NO_AUTH, "phone": PHONE_AUTH, "server": SERVER_AUTH, "operator": OPERATOR_AUTH}

UNDECLARED = {name: _endpoint(name, call) for name, call in CALLS.items()}
"""Endpoints that are not declared beside their handlers yet."""
