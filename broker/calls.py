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
from broker.apps.rules import FIELDS, LIFETIME_MAX, SECRET_MAX
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
from broker.users.rules import INVITATION_MAX

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

SAID: Mapping[str, Schema] = {
    **dict.fromkeys(FIELDS, TEXT),
    "origins": TEXTS,
    "redirect_urls": TEXTS,
    "provider_secret": either({**TEXT, "maxLength": SECRET_MAX}, NOTHING),
    "register_url": either(TEXT, NOTHING),
    "login_lifetime": either({"type": "integer", "minimum": 1, "maximum": LIFETIME_MAX}, NOTHING),
}
"""What may be said of an app; `records/rules.py` says more of each."""

APP = fields(
    id=TEXT,
    has_provider_secret=YES_OR_NO,
    has_api_secret=YES_OR_NO,
    created_at=TIME,
    changed_at=TIME,
    **{name: said for name, said in SAID.items() if name != "provider_secret"},
)

NEW_APP = fields(SAID, id=TEXT, name=TEXT)

CHANGED_APP = fields(SAID)

IDENTITY = fields(
    {"unionid": either(TEXT, NOTHING)}, provider=TEXT, provider_app_id=TEXT, openid=TEXT
)

SAID_OF_USER: Mapping[str, Schema] = {"name": either(TEXT, NOTHING), "blocked": YES_OR_NO}

USER = fields(
    id=TEXT,
    identities={"type": "array", "items": IDENTITY},
    created_at=TIME,
    changed_at=TIME,
    **SAID_OF_USER,
)

LIFETIME: Schema = {"type": "integer", "minimum": 1, "maximum": INVITATION_MAX}


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

OPERATOR = "invalid_client"

OF_USER = f"{OPERATOR} unknown_user"

OPENING = "invalid_client invalid_session rate_limited access_denied"

SCANNING = f"{PHONE} unknown_scene already_scanned invalid_state expired_token"

DECIDING = f"{PHONE} invalid_grant access_denied invalid_state expired_token"

TOKENS = (
    "invalid_client unsupported_grant_type invalid_grant authorization_pending slow_down "
    "access_denied expired_token rate_limited"
)

CALLS: Mapping[str, Call] = {
    "GET /": Call("A page that says the broker is running", gives="text/html"),
    "GET /.well-known/jwks.json": Call(
        "The keys that tokens are checked with (RFC 7517)",
        gives=fields(keys={"type": "array", "items": OBJECT}),
    ),
    "GET /.well-known/oauth-authorization-server": Call(
        "The authorization server's metadata (RFC 8414)", gives=METADATA
    ),
    "GET /health/live": Call("Whether the process runs", gives=fields(status=TEXT)),
    "GET /health/ready": Call(
        "Whether this instance should get browsers", gives=fields(status=TEXT)
    ),
    "GET /version": Call("Which program this is", gives=fields(name=TEXT, version=TEXT)),
    "GET /openapi.json": Call("This description", gives=OBJECT),
    "GET /scan-login.js": Call("The widget", gives="text/javascript"),
    "GET /socket.io/socket.io.min.js": Call(
        "The official Socket.IO client", gives="text/javascript"
    ),
    "GET /socket.io/socket.io.esm.min.js": Call(
        "The official Socket.IO client as a module", gives="text/javascript"
    ),
    "GET /page.css": Call("The style of the broker's own pages", gives="text/css"),
    "GET /metrics": Call("Prometheus' text", gives="text/plain"),
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
    "GET /codes/{key}": Call("The picture of a code drawn ahead of time", gives="image/*"),
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
    "GET /apps": Call(
        "All apps", None, fields(apps={"type": "array", "items": APP}), OPERATOR, "operator"
    ),
    "POST /apps": Call("Add an app", NEW_APP, APP, f"{OPERATOR} app_exists", "operator", 201),
    "GET /apps/{id}": Call("An app", None, APP, f"{OPERATOR} unknown_app", "operator"),
    "PATCH /apps/{id}": Call(
        "Change an app", CHANGED_APP, APP, f"{OPERATOR} unknown_app", "operator"
    ),
    "DELETE /apps/{id}": Call(
        "Remove an app", None, None, f"{OPERATOR} unknown_app", "operator", 204
    ),
    "POST /apps/{id}/rotate-secret": Call(
        "Make an app's own secret anew",
        None,
        fields(api_secret=TEXT),
        f"{OPERATOR} unknown_app",
        "operator",
    ),
    "GET /users": Call(
        "Users, some at a time",
        None,
        fields({"next": TEXT}, users={"type": "array", "items": USER}),
        OPERATOR,
        "operator",
        query=("after", "limit"),
    ),
    "POST /users": Call(
        "Add a user",
        fields({**SAID_OF_USER, "id": TEXT}),
        USER,
        f"{OPERATOR} user_exists",
        "operator",
        201,
    ),
    "GET /users/{id}": Call("A user", None, USER, OF_USER, "operator"),
    "PATCH /users/{id}": Call("Change a user", fields(SAID_OF_USER), USER, OF_USER, "operator"),
    "DELETE /users/{id}": Call("Remove a user", None, None, OF_USER, "operator", 204),
    "POST /users/{id}/link": Call(
        "Say that an identity is this user's",
        IDENTITY,
        USER,
        f"{OF_USER} identity_taken",
        "operator",
    ),
    "POST /users/{id}/unlink": Call(
        "Take an identity from a user", IDENTITY, USER, f"{OF_USER} unknown_identity", "operator"
    ),
    "POST /users/{id}/invite": Call(
        "Make an invitation, by which one phone becomes this user's",
        fields({"expires_in": LIFETIME}),
        fields(invitation=TEXT, expires_in=COUNT),
        OF_USER,
        "operator",
        201,
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
