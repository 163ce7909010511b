"""Errors as responses and acknowledgements."""

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
    """Any exception as one that can be answered; one of ours as it is, a surprise logged."""
    if not isinstance(error, BrokerError):
        log.error("unexpected failure", exc_info=error)
        error = Unavailable()
    ERRORS.labels(error.error).inc()
    return error


async def ack(call: Awaitable[object]) -> object:
    """The answer of a Socket.IO event: what `call` gives, or its failure's body."""
    try:
        return await call
    except Exception as error:  # every event is answered
        return to_broker_error(error).body()


def error_middleware(check: Callable[[web.Request], None] = lambda request: None) -> Middleware:
    """Answers every failure of an HTTP request as `{"error", "error_description"}`.

    check: raises a BrokerError for what is not taken now.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            check(request)
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            return error_response(
                to_broker_error(InvalidRequest(f"the body is over {BODY_MAX_BYTES} bytes"))
            )
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return _not_served(request, error)
        except Exception as error:  # nothing is a 500
            return error_response(to_broker_error(error))

    return middleware


def _not_served(request: web.Request, error: web.HTTPException) -> web.Response:
    """aiohttp's own no, such as 404, in our form."""
    body = InvalidRequest(
        f"{request.method} {sanitize_text(request.path, 64)}: {error.reason}"
    ).body()
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    return json_response(body, headers, status=error.status)


ERRORS = Counter("scanlogin_refusals", "Failures that were answered", ["error"])
