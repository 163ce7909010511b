"""Asks every instance which logins wait there.

An operator's request reaches one instance. It sends a notice to each other instance, and each
answers with the ids of its logins by a notice. The logins themselves are read from the state.

    asker ──login-list-asked──▶ other instances
    asker ◀──login-list───────  other instances
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

ASKED_EVENT, LIST_EVENT = "login-list-asked", "login-list"

ANSWER_TIMEOUT = 1.0
"""Seconds in which an instance answers."""

LIST_MAX = 1_000
"""Logins in one answer."""

CLOSE_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginQuestion:
    """id: of the question.  asker: the instance that gets the answers.

    app: None for all apps.  after, limit: the page.
    """

    id: str
    asker: str
    app: str | None
    after: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginAnswer:
    """total: the browsers that wait at the instance.  ids: those of the page, in order."""

    question: str
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


class _OpenQuestion:
    """A question that waits for the answers of `instances`."""

    def __init__(self, instances: Collection[str]) -> None:
        self.missing = set(instances)
        self.answers: list[LoginAnswer] = []
        self.is_complete = asyncio.Event()
        self._check()

    def add(self, answer: LoginAnswer) -> None:
        """Another answer of one instance, and one of an unknown instance, are ignored."""
        if answer.instance in self.missing:
            self.missing.discard(answer.instance)
            self.answers.append(answer)
            self._check()

    def _check(self) -> None:
        if not self.missing:
            self.is_complete.set()


_decode_question = decoder(LoginQuestion)
_decode_answer = decoder(LoginAnswer)


class LoginQuestions:
    """Asks the other instances, and answers their questions.

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
        self._open: dict[str, _OpenQuestion] = {}
        self._tasks = BackgroundTasks()

    async def close(self) -> None:
        await self._tasks.close(grace=CLOSE_TIMEOUT)

    def notice_handler(self) -> NoticeHandler:
        return NoticeHandler((ASKED_EVENT, LIST_EVENT), self._receive, _nothing)

    async def ask(self, *, app: str | None, after: str, limit: int) -> FoundLogins:
        """Return the logins of all instances that answer within `ANSWER_TIMEOUT`."""
        question = LoginQuestion(
            id=secrets.token_urlsafe(9), asker=self._instance, app=app, after=after, limit=limit
        )
        instances = list(self._others())
        waiting = self._open[question.id] = _OpenQuestion(instances)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    notice = Notice(ASKED_EVENT, encode(question).decode())
                    await asyncio.gather(*(self._send(name, notice) for name in instances))
                    await waiting.is_complete.wait()
        finally:
            del self._open[question.id]
        answers = [self._answer(question), *waiting.answers]
        ids = sorted({login_id for answer in answers for login_id in answer.ids})[:limit]
        return FoundLogins(ids, sum(one.total for one in answers), sorted(waiting.missing))

    async def _receive(self, notice: Notice) -> None:
        """Handle a notice. One that cannot be decoded is of another version, and is ignored."""
        with suppress(ValueError, RecursionError):
            if notice.event == ASKED_EVENT:
                question = _decode_question(notice.id)
                answer = Notice(LIST_EVENT, encode(self._answer(question)).decode())
                self._tasks.spawn("login list", self._send(question.asker, answer))
            else:
                received = _decode_answer(notice.id)
                if received.question in self._open:
                    self._open[received.question].add(received)

    def _answer(self, question: LoginQuestion) -> LoginAnswer:
        limit = min(question.limit, LIST_MAX)
        ids = self._lobby.login_ids(app=question.app, after=question.after, limit=limit)
        return LoginAnswer(
            question=question.id, instance=self._instance, total=len(self._lobby), ids=[*ids]
        )

    async def _send(self, instance: str, notice: Notice) -> None:
        with suppress(Unavailable):  # the instance is named in `missing`
            await self._bus.publish(instance, notice)


async def _nothing() -> None:
    """The asker names instances that have not answered."""
