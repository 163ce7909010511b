"""Endpoints that open and end a phone's session."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from broker.apps.model import DEFAULT_APP
from broker.infrastructure.api.schema import AppIdField, RequestModel

JsCodeField = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class OpenSessionRequest(RequestModel):
    app: AppIdField = DEFAULT_APP
    js_code: JsCodeField
