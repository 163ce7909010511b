"""Limits the directory requests for one person."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from broker.errors import BrokerError, RateLimited, Unavailable
from broker.identity.model import Identity
from broker.identity.ports import Directory
from broker.infrastructure.fair_queue import FairQueue
from broker.infrastructure.rate_limit import RateLimit

QUESTIONS, WINDOW = 30, 10.0
"""Finds for one person, and the window in seconds: more than a phone's taps and retries,
too few to load a site."""

AT_ONCE = 32
"""Requests to the directory at once, for all persons; others wait in turn."""

TURN_TIMEOUT = 4.0
"""Seconds that a request may wait for its turn: phones give up after 10."""

ANSWER_TTL = 2.0
"""Seconds for which an answer is cached: a registered person waits this long at most."""

ANSWERS_MAX = 10_000
"""Answers in memory: about 5 MB."""


class CachedAnswer(NamedTuple):
    """A subject or a refusal, and the time of its request.

    A refusal is raised as a copy: the one that is kept would hold the frames of every
    request that it was raised in.
    """

    outcome: str | BrokerError
    asked_at: float

    @property
    def is_refusal(self) -> bool:
        return isinstance(self.outcome, BrokerError)

    def read(self) -> str:
        if isinstance(self.outcome, BrokerError):
            raise _copy(self.outcome)
        return self.outcome


class Question:
    """The current request about one person.

    asked: requests so far.  answered: the number of the request that `json_response` is for.
    callers: how many wait for an answer.
    """

    __slots__ = ("answer", "answered", "asked", "callers", "lock")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.callers = self.asked = self.answered = 0
        self.answer = CachedAnswer("", 0.0)


class SharedDirectory:
    """A directory in front of another one; sends it one request at a time per person.

    At most `AT_ONCE` requests for all persons are sent at once.

    Calls that arrive during a request about their person share the next one.
    So an answer is never older than the call, and a person who has just been blocked is
    refused.  `find` may give a refusal that is up to `refusal_ttl` seconds old; `find_recent`
    gives any answer that is up to `ANSWER_TTL` seconds old.  A failure is not cached.
    Both raise RateLimited past `QUESTIONS` for one person.

    clock: seconds from any start.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        refusal_ttl: float = ANSWER_TTL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._refusal_ttl = refusal_ttl
        self._clock = clock
        self._limit = RateLimit(QUESTIONS, WINDOW, clock=clock)
        self._turns = FairQueue(share=1, total=AT_ONCE, wait=TURN_TIMEOUT)
        self._questions: dict[Identity, Question] = {}
        self._answers: dict[Identity, CachedAnswer] = {}

    async def open(self) -> None:
        await self._directory.open()

    async def close(self) -> None:
        await self._directory.close()

    async def find(self, identity: Identity) -> str:
        self._count(identity)
        kept = self._kept(identity, self._refusal_ttl)
        if kept is None or not kept.is_refusal:
            kept = await self._ask(identity)
        return kept.read()

    async def find_recent(self, identity: Identity) -> str:
        kept = self._kept(identity, ANSWER_TTL)
        if kept is None:
            # Calls that share a request count once: a server may check one session often.
            kept = await self._ask(identity, before=self._count)
        return kept.read()

    def _count(self, identity: Identity) -> None:
        if not self._limit.hit(identity):
            raise RateLimited(self._limit.retry_after(identity))

    def _kept(self, identity: Identity, ttl: float) -> CachedAnswer | None:
        answer = self._answers.get(identity)
        return answer if answer and self._clock() - answer.asked_at < ttl else None

    async def _ask(
        self, identity: Identity, before: Callable[[Identity], None] = lambda identity: None
    ) -> CachedAnswer:
        """Return the answer to a request that starts from now on.

        before: called before this call sends a request itself.
        """
        question = self._questions.setdefault(identity, Question())
        arrived = question.asked
        question.callers += 1
        try:
            async with question.lock:
                if question.answered <= arrived:  # no request since this call began
                    before(identity)
                    question.asked += 1
                    question.answer = await self._answer(identity)
                    question.answered = question.asked
                return question.answer
        finally:
            question.callers -= 1
            if not question.callers:
                del self._questions[identity]

    async def _answer(self, identity: Identity) -> CachedAnswer:
        asked_at = self._clock()
        try:
            async with self._turns.turn(identity):
                answer = CachedAnswer(await self._directory.find(identity), asked_at)
        except TimeoutError:
            return CachedAnswer(
                Unavailable("too many requests to the user directory; try again"), asked_at
            )
        except Unavailable as failure:
            return CachedAnswer(failure, asked_at)
        except BrokerError as refusal:
            answer = CachedAnswer(_copy(refusal), asked_at)
        self._keep(identity, answer)
        return answer

    def _keep(self, identity: Identity, answer: CachedAnswer) -> None:
        self._answers.pop(identity, None)
        self._answers[identity] = answer
        if len(self._answers) > ANSWERS_MAX:
            del self._answers[next(iter(self._answers))]


class RecentDirectory:
    """The directory behind `shared`, with answers that may be `ANSWER_TTL` seconds old."""

    def __init__(self, shared: SharedDirectory) -> None:
        self.open, self.close, self.find = shared.open, shared.close, shared.find_recent


def _copy(error: BrokerError) -> BrokerError:
    """The same error without traceback and context."""
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    return copy


def recent(directory: Directory) -> Directory:
    """Return `directory`; if it is shared, with recent answers."""
    return RecentDirectory(directory) if isinstance(directory, SharedDirectory) else directory
