"""Reads authorization requests for the login feature."""

from __future__ import annotations

from broker.apps.model import App
from broker.oidc.ports import AuthorizationRequests
from broker.oidc.requests import shown_scopes


class RequestReader:
    def __init__(self, requests: AuthorizationRequests) -> None:
        self._requests = requests

    async def scope_of(self, request_id: str, app: App) -> tuple[str, ...] | None:
        """Return the scopes that the phone shows for an open request of `app`, or None."""
        request = await self._requests.get(request_id)
        if request is None or request.completed_by:
            return None
        if (request.app, request.incarnation) != (app.id, app.incarnation):
            return None
        return shown_scopes(request.scope, request.claims)
