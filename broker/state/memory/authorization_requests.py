"""Authorization requests in memory."""

from __future__ import annotations

from dataclasses import replace

from broker.infrastructure.clock import Clock
from broker.oidc.model import AuthorizationRequest
from broker.state.memory.expiring_map import ExpiringMap

REQUESTS_MAX = 50_000
"""Requests at once. One has at most 8 192 characters, so a flood takes at most 400 MB of text
before `put` refuses."""


class MemoryAuthorizationRequests:
    def __init__(self, clock: Clock, capacity: int = REQUESTS_MAX) -> None:
        self._requests: ExpiringMap[AuthorizationRequest] = ExpiringMap(clock, capacity)

    async def put(self, request: AuthorizationRequest) -> None:
        self._requests.put(request.id, request, request.expires_at)

    async def bind(self, request_id: str, cookie_hash: bytes, expires_at: float) -> bool:
        request = self._requests.get(request_id)
        if request is None or request.cookie_hash not in (None, cookie_hash):
            return False
        if request.cookie_hash is None:
            bound = replace(request, cookie_hash=cookie_hash, expires_at=expires_at)
            self._requests.put(request_id, bound, expires_at)
        return True

    async def get(self, request_id: str) -> AuthorizationRequest | None:
        return self._requests.get(request_id)

    async def complete(self, request_id: str, by: str) -> bool:
        request = self._requests.get(request_id)
        if request is None or request.completed_by not in ("", by):
            return False
        completed = replace(request, completed_by=by)
        self._requests.put(request_id, completed, request.expires_at)
        return True
