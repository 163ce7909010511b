"""Errors of an authorization request that the app gets by a redirect.

RFC 6749, section 4.1.2.1, and OpenID Connect Core, section 3.1.2.6.
"""

from __future__ import annotations

from broker.errors import BrokerError


class UnsupportedResponseType(BrokerError):
    error, status = "unsupported_response_type", 400
    description = "response_type: only `code` is supported"


class RequestNotSupported(BrokerError):
    error, status = "request_not_supported", 400
    description = "request: request objects are not supported; send plain parameters or use PAR"


class RequestUriNotSupported(BrokerError):
    error, status = "request_uri_not_supported", 400
    description = "request_uri: only a request_uri of this provider's PAR endpoint is supported"


class LoginRequired(BrokerError):
    error, status = "login_required", 400
    description = "the user has to sign in, which prompt=none forbids"


class OtherUser(BrokerError):
    """OpenID Connect Core, section 3.1.2.1, requires an error."""

    error, status = "login_required", 400
    description = "id_token_hint: another user has signed in"


class RequestCancelled(BrokerError):
    error, status = "access_denied", 403
    description = "the user has cancelled the sign-in"


class InvalidRequestUri(BrokerError):
    """Shown as a page: without the request it is not known where to redirect to."""

    error, status = "invalid_request_uri", 400
    description = "request_uri: unknown, used, expired or of another app"
