"""Lists the logins that wait at all instances.

An operator's request reaches one instance. It sends a notice to each other instance, and each
answers with the ids of its logins by a notice. The logins themselves are read from the state.

    requester ──login-list-request──▶ other instances
    requester ◀──login-list─────────── other instances
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from broker.errors import Unavailable
from broker.infrastructure.background import BackgroundTasks
from broker.infrastructure.codec import decoder, encode
from broker.infrastructure.coordination import Bus, Notice
from broker.infrastructure.notices import NoticeHandler

REQUEST_EVENT, RESPONSE_EVENT = "login-list-request", "login-list"

ANSWER_TIMEOUT = 1.0
"""Seconds in which an instance answers."""

LIST_MAX = 1_000
"""Logins in one response."""

CLOSE_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """id: of the request.  requester: the instance that gets the responses.

    app: None for all apps.  after, limit: the page.
    """

    id: str
    requester: str
    app: str | None
    after: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListResponse:
    """total: the browsers that wait at the instance.  ids: those of the page, in order."""

    request: str
    instance: str
    total: int
    ids: list[str]


class WaitingLogins(Protocol):
    """The logins of this instance; the lobby."""

    def __len__(self) -> int: ...

    def login_ids(self, *, app: str | None, after: str, limit: int) -> Sequence[str]: ...


class FoundLogins(NamedTuple):
    """ids: of at most `limit` logins, in order.  missing: instances that have not answered."""

    ids: Sequence[str]
    total: int
    missing: Sequence[str]


class _PendingRequest:
    """A request that waits for the responses of `instances`."""

    def __init__(self, instances: Collection[str]) -> None:
        self.missing = set(instances)
        self.responses: list[ListResponse] = []
        self.is_complete = asyncio.Event()
        self._check()

    def add(self, response: ListResponse) -> None:
        """A second response of an instance, and one of an unknown instance, are ignored."""
        if response.instance in self.missing:
            self.missing.discard(response.instance)
            self.responses.append(response)
            self._check()

    def _check(self) -> None:
        if not self.missing:
            self.is_complete.set()


_decode_request = decoder(ListRequest)
_decode_response = decoder(ListResponse)


class LoginLister:
    """Sends requests to the other instances, and answers theirs.

    others: returns the names of the other instances.
    instance: the name of this process on the bus.
    """

    def __init__(
        self,
        *,
        lobby: WaitingLogins,
        bus: Bus,
        others: Callable[[], Collection[str]],
        instance: str,
    ) -> None:
        self._lobby = lobby
        self._bus = bus
        self._others = others
        self._instance = instance
        self._pending: dict[str, _PendingRequest] = {}
        self._tasks = BackgroundTasks()

    async def close(self) -> None:
        await self._tasks.close(grace=CLOSE_TIMEOUT)

    def notice_handler(self) -> NoticeHandler:
        return NoticeHandler((REQUEST_EVENT, RESPONSE_EVENT), self._receive, _nothing)

    async def find(self, *, app: str | None, after: str, limit: int) -> FoundLogins:
        """Return the logins of all instances that answer within `ANSWER_TIMEOUT`."""
        request = ListRequest(
            id=secrets.token_urlsafe(9), requester=self._instance, app=app, after=after, limit=limit
        )
        instances = list(self._others())
        pending = self._pending[request.id] = _PendingRequest(instances)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    notice = Notice(REQUEST_EVENT, encode(request).decode())
                    await asyncio.gather(*(self._send(name, notice) for name in instances))
                    await pending.is_complete.wait()
        finally:
            del self._pending[request.id]
        responses = [self._response(request), *pending.responses]
        ids = sorted({login_id for one in responses for login_id in one.ids})[:limit]
        return FoundLogins(ids, sum(one.total for one in responses), sorted(pending.missing))

    async def _receive(self, notice: Notice) -> None:
        """Handle a notice. One that cannot be decoded is of another version, and is ignored."""
        with suppress(ValueError, RecursionError):
            if notice.event == REQUEST_EVENT:
                request = _decode_request(notice.id)
                response = Notice(RESPONSE_EVENT, encode(self._response(request)).decode())
                self._tasks.spawn("login list", self._send(request.requester, response))
            else:
                received = _decode_response(notice.id)
                if received.request in self._pending:
                    self._pending[received.request].add(received)

    def _response(self, request: ListRequest) -> ListResponse:
        limit = min(request.limit, LIST_MAX)
        ids = self._lobby.login_ids(app=request.app, after=request.after, limit=limit)
        return ListResponse(
            request=request.id, instance=self._instance, total=len(self._lobby), ids=[*ids]
        )

    async def _send(self, instance: str, notice: Notice) -> None:
        with suppress(Unavailable):  # the instance is named in `missing`
            await self._bus.publish(instance, notice)


async def _nothing() -> None:
    """The requester names instances that have not answered."""
