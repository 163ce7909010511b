"""Exceptions as HTTP responses and Socket.IO acknowledgements."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from broker.errors import BrokerError, InvalidRequest, Unavailable
from broker.infrastructure.api.bodies import BODY_MAX_BYTES
from broker.infrastructure.api.responses import Handler, error_response, json_response
from broker.infrastructure.api.schema import sanitize_text
from broker.infrastructure.observability.metrics import Counter

log = structlog.get_logger()


def to_broker_error(error: Exception) -> BrokerError:
    """Return the error to send: `error` itself, or Unavailable for an unexpected exception.

    Counts the error, and logs an unexpected one.
    """
    if not isinstance(error, BrokerError):
        log.error("unexpected error", exc_info=error)
        error = Unavailable()
    ERRORS.labels(error.error).inc()
    return error


async def ack(call: Awaitable[object]) -> object:
    """Return the acknowledgement of a Socket.IO event: the result of `call`, or its error."""
    try:
        return await call
    except Exception as error:  # every event gets an acknowledgement
        return to_broker_error(error).body()


def error_middleware(check: Callable[[web.Request], None] = lambda request: None) -> Middleware:
    """Return a middleware that sends every error as `{"error", "error_description"}`.

    check: raises a BrokerError to refuse a request before it is handled.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            check(request)
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            too_large = InvalidRequest(f"request body is larger than {BODY_MAX_BYTES} bytes")
            return error_response(to_broker_error(too_large))
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return _routing_error(request, error)
        except Exception as error:  # no request ends in a 500
            return error_response(to_broker_error(error))

    return middleware


def _routing_error(request: web.Request, error: web.HTTPException) -> web.Response:
    """Return an error of aiohttp, such as 404, in the broker's format."""
    body = InvalidRequest(
        f"{request.method} {sanitize_text(request.path, 64)}: {error.reason}"
    ).body()
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    return json_response(body, headers, status=error.status)


ERRORS = Counter("scanlogin_refusals", "Error responses by error", ["error"])
