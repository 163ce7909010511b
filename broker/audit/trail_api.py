"""The audit log for operators: a search, and an export of all entries."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import StringConstraints

from broker.audit.model import AuditQuery, ExportedEntry
from broker.audit.ports import AuditExport
from broker.infrastructure.api.authorization import OPERATOR, RECORDED
from broker.infrastructure.api.endpoint import ADMIN, QUERY, Endpoint
from broker.infrastructure.api.responses import StreamedResponse
from broker.infrastructure.api.schema import LimitField, RequestModel, ResponseModel
from broker.infrastructure.codec import encode

PAGE = 500
"""Entries that are read at once for an export."""

DEFAULT_LIMIT = 100

Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]+$", max_length=256)]

Number = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,15}$")]


class TrailQuery(RequestModel):
    """since: Unix time in seconds. after: the `next` of the page before."""

    app: Text | None = None
    subject: Text | None = None
    state: Text | None = None
    kind: Literal["login", "signin", "refresh", "logout", "admin"] | None = None
    since: Number | None = None
    after: Number | None = None
    limit: LimitField = str(DEFAULT_LIMIT)


class TrailExportQuery(RequestModel):
    """after: the `seq` of the last entry that the client has; 0 for all."""

    after: Number = "0"


class TrailResponse(ResponseModel, total=False):
    """next: if there are more entries."""

    entries: list[dict[str, Any]]
    next: str


class TrailAPI:
    def __init__(self, export: AuditExport) -> None:
        self._export = export

    async def search(self, query: TrailQuery) -> TrailResponse:
        """Return a page, the latest entries first."""
        limit = int(query.limit)
        found = await self._export.search(
            AuditQuery(
                app=query.app,
                subject=query.subject,
                state=query.state,
                kind=query.kind,
                since=None if query.since is None else float(query.since),
                before=None if query.after is None else int(query.after),
            ),
            limit + 1,
        )
        response: TrailResponse = {"entries": [dict(entry) for entry in found[:limit]]}
        if len(found) > limit:
            response["next"] = str(found[limit - 1]["seq"])
        return response

    async def export(self, query: TrailExportQuery) -> web.Response:
        """Stream all entries after a number, one JSON object a line."""
        first = await self._export.page(int(query.after), PAGE)
        headers = {"Cache-Control": "no-store", "Content-Type": "application/x-ndjson"}
        return StreamedResponse(self._lines(first), headers)

    async def _lines(self, page: Sequence[ExportedEntry]) -> AsyncGenerator[bytes, None]:
        while page:
            yield b"".join(encode(entry) + b"\n" for entry in page)
            page = await self._export.page(int(str(page[-1]["seq"])), PAGE)


ENDPOINTS = [
    Endpoint(
        "GET",
        "/trail",
        TrailAPI.search,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="searchAuditLog",
        summary="Search the audit log, the latest entries first",
        request=TrailQuery,
        request_in=QUERY,
        response=TrailResponse,
    ),
    Endpoint(
        "GET",
        "/trail.ndjson",
        TrailAPI.export,
        role=ADMIN,
        auth=RECORDED,
        operation_id="exportAuditLog",
        summary="Export all entries of the audit log after a number, one JSON object a line",
        request=TrailExportQuery,
        request_in=QUERY,
        response="application/x-ndjson",
    ),
]
