"""Reads authorization requests for the login feature."""

from __future__ import annotations

from broker.apps.model import App
from broker.login.ports import RequestedLogin
from broker.oidc.ports import AuthorizationRequests
from broker.oidc.requests import shown_scopes


class RequestReader:
    def __init__(self, requests: AuthorizationRequests) -> None:
        self._requests = requests

    async def find(self, request_id: str, app: App) -> RequestedLogin | None:
        """Return what an open request of `app` asks of its login, or None."""
        request = await self._requests.get(request_id)
        if request is None or request.completed_by:
            return None
        if (request.app, request.incarnation) != (app.id, app.incarnation):
            return None
        return RequestedLogin(shown_scopes(request.scope, request.claims), request.match)
