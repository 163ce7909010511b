"""Answers of backends to callbacks. Pure functions.

| callback       | accepted                 | refused                    | failed        |
|----------------|--------------------------|----------------------------|---------------|
| tunnel.open    | 200 JSON object, 204     | 401, 403 with JSON object  | anything else |
| tunnel.message | 200 JSON object, 204     | 4xx with JSON object       | anything else |
| tunnel.close   | 2xx                      | –                          | anything else |
| tunnel.verify  | 200 with the challenge   | –                          | anything else |

A 4xx without a JSON object is an outage: a proxy or another site answers in place of the
backend. `GONE` is never an answer.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from broker.infrastructure.codec import encode
from broker.infrastructure.outbound.http import HTTPResponse
from broker.infrastructure.outbound.webhook import WebhookAnswer, WebhookFailed, read_object
from broker.tunnels.model import (
    ENDED_BY_BACKEND,
    AcceptedOpening,
    CloseRequest,
    MessageAnswer,
)
from broker.tunnels.rules import (
    check_close_code,
    check_close_reason,
    check_groups,
    check_meta,
    check_subject,
)

ACCEPTED, REFUSED = "accepted", "refused"
"""Outcomes of callbacks that have an answer."""

GONE = 410
"""The status with which a backend says that the app no longer exists."""


def read_opening(response: HTTPResponse) -> WebhookAnswer[AcceptedOpening | None]:
    """Return the answer to `tunnel.open`; None if the tunnel is refused. Raises WebhookFailed."""
    if response.status == 204:
        return WebhookAnswer(ACCEPTED, AcceptedOpening())
    if response.status in (401, 403):
        read_object(response)
        return WebhookAnswer(REFUSED, None)
    fields = _read_accepted(response)
    try:
        opening = AcceptedOpening(
            meta=check_meta(fields["meta"]) if "meta" in fields else None,
            groups=check_groups(fields["groups"]) if "groups" in fields else None,
            subject=check_subject(fields["subject"]) if "subject" in fields else None,
        )
    except ValueError as error:
        raise WebhookFailed(f"invalid answer to tunnel.open: {error}") from None
    return WebhookAnswer(ACCEPTED, opening)


def read_message_answer(response: HTTPResponse) -> WebhookAnswer[MessageAnswer]:
    """Return the answer to `tunnel.message`. Raises WebhookFailed."""
    if response.status == 204:
        return WebhookAnswer(ACCEPTED, MessageAnswer())
    if 400 <= response.status < 500:
        return WebhookAnswer(REFUSED, _read_refusal(read_object(response)))
    fields = _read_accepted(response)
    reply = encode(fields["reply"]) if "reply" in fields else None
    return WebhookAnswer(ACCEPTED, MessageAnswer(reply=reply, close=_read_close(fields)))


def read_closed(response: HTTPResponse) -> WebhookAnswer[None]:
    """Check the answer to `tunnel.close`. Raises WebhookFailed."""
    if not 200 <= response.status < 300:
        raise WebhookFailed(f"status {response.status}")
    return WebhookAnswer(ACCEPTED, None)


def read_verified(response: HTTPResponse, challenge: str) -> WebhookAnswer[None]:
    """Check the answer to `tunnel.verify`. Raises WebhookFailed."""
    answered = _read_accepted(response).get("challenge")
    if not isinstance(answered, str) or not hmac.compare_digest(
        answered.encode(errors="replace"), challenge.encode()
    ):
        raise WebhookFailed("the answer to tunnel.verify has another challenge")
    return WebhookAnswer(ACCEPTED, None)


def _read_accepted(response: HTTPResponse) -> Mapping[str, object]:
    if response.status != 200:
        raise WebhookFailed(f"status {response.status}")
    return read_object(response)


def _read_refusal(fields: Mapping[str, object]) -> MessageAnswer:
    error, description = fields.get("error"), fields.get("error_description", "")
    if not isinstance(error, str) or not isinstance(description, str):
        raise WebhookFailed("a refusal without the field error")
    return MessageAnswer(error=(error, description))


def _read_close(fields: Mapping[str, object]) -> CloseRequest | None:
    if "close" not in fields:
        return None
    close = fields["close"]
    if not isinstance(close, dict):
        raise WebhookFailed("the field close is not an object")
    try:
        return CloseRequest(
            check_close_code(close.get("code", ENDED_BY_BACKEND)),
            check_close_reason(close.get("reason", "")),
        )
    except ValueError as error:
        raise WebhookFailed(f"invalid field close: {error}") from None
