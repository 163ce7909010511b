"""Limits and shares the requests to a directory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from broker.errors import BrokerError, RateLimited, Unavailable
from broker.identity.model import Identity, UserProfile
from broker.identity.ports import Directory
from broker.infrastructure.fair_queue import FairQueue
from broker.infrastructure.rate_limit import RateLimit

REQUESTS_MAX, WINDOW = 30, 10.0
"""Calls for one identity, and the window in seconds. This is more than the taps and retries of
a phone, and too few to overload a site."""

CONCURRENT_MAX = 32
"""Concurrent requests to the directory. Others wait for their turn."""

TURN_TIMEOUT = 4.0
"""Seconds that a request may wait for its turn. Phones give up after 10."""

ANSWER_TTL = 2.0
"""Seconds for which an answer is cached. A user who has just registered waits at most this
long."""

ANSWERS_MAX = 10_000
"""Answers in memory: about 5 MB."""


NO_PROFILE = UserProfile(subject="")


class CachedAnswer(NamedTuple):
    """A profile or a refusal, and the time of its request.

    A refusal is raised as a copy. The cached error would hold the frames of every caller that
    it was raised in.
    """

    outcome: UserProfile | BrokerError
    requested_at: float

    @property
    def is_refusal(self) -> bool:
        return isinstance(self.outcome, BrokerError)

    def profile(self) -> UserProfile:
        """Return the profile. Raises the refusal."""
        if isinstance(self.outcome, BrokerError):
            raise _copy(self.outcome)
        return self.outcome


class SharedRequest:
    """The requests about one identity, while callers wait for them.

    sent: number of requests so far.
    answered: number of the request that `answer` belongs to.
    callers: how many wait for an answer.
    """

    __slots__ = ("answer", "answered", "callers", "lock", "sent")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.callers = self.sent = self.answered = 0
        self.answer = CachedAnswer(NO_PROFILE, 0.0)


class SharedDirectory:
    """A directory in front of another one. It sends one request at a time for each identity.

    It sends at most `CONCURRENT_MAX` requests at once for all identities together. Calls that
    arrive during a request about their identity share the next request. So an answer is never
    older than the call, and a user who has just been blocked is refused.

    `find` may return a refusal that is up to `refusal_ttl` seconds old. `find_recent` returns
    any answer that is up to `ttl` seconds old. Failures are not cached. Both raise
    RateLimited after `REQUESTS_MAX` calls for one identity.

    clock: monotonic time in seconds.
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
        self._limit = RateLimit(REQUESTS_MAX, WINDOW, clock=clock)
        self._turns = FairQueue(share=1, total=CONCURRENT_MAX, wait=TURN_TIMEOUT)
        self._requests: dict[Identity, SharedRequest] = {}
        self._answers: dict[Identity, CachedAnswer] = {}

    async def open(self) -> None:
        await self._directory.open()

    async def close(self) -> None:
        await self._directory.close()

    async def find(self, identity: Identity) -> UserProfile:
        self._count(identity)
        answer = self._cached(identity, self._refusal_ttl)
        if answer is None or not answer.is_refusal:
            answer = await self._request(identity)
        return answer.profile()

    async def find_recent(self, identity: Identity, ttl: float = ANSWER_TTL) -> UserProfile:
        answer = self._cached(identity, ttl)
        if answer is None:
            # Calls that share a request count once: a server may check one session often.
            answer = await self._request(identity, before_sending=self._count)
        return answer.profile()

    def _count(self, identity: Identity) -> None:
        if not self._limit.hit(identity):
            raise RateLimited(self._limit.retry_after(identity))

    def _cached(self, identity: Identity, ttl: float) -> CachedAnswer | None:
        answer = self._answers.get(identity)
        return answer if answer and self._clock() - answer.requested_at < ttl else None

    async def _request(
        self, identity: Identity, before_sending: Callable[[Identity], None] = lambda identity: None
    ) -> CachedAnswer:
        """Return the answer to a request that starts from now on.

        before_sending: called if this call sends the request itself.
        """
        request = self._requests.setdefault(identity, SharedRequest())
        sent_before = request.sent
        request.callers += 1
        try:
            async with request.lock:
                if request.answered <= sent_before:  # no request since this call began
                    before_sending(identity)
                    request.sent += 1
                    request.answer = await self._send(identity)
                    request.answered = request.sent
                return request.answer
        finally:
            request.callers -= 1
            if not request.callers:
                del self._requests[identity]

    async def _send(self, identity: Identity) -> CachedAnswer:
        requested_at = self._clock()
        try:
            async with self._turns.turn(identity):
                answer = CachedAnswer(await self._directory.find(identity), requested_at)
        except TimeoutError:
            return CachedAnswer(
                Unavailable("too many requests to the user directory; try again"), requested_at
            )
        except Unavailable as failure:
            return CachedAnswer(failure, requested_at)
        except BrokerError as refusal:
            answer = CachedAnswer(_copy(refusal), requested_at)
        self._cache(identity, answer)
        return answer

    def _cache(self, identity: Identity, answer: CachedAnswer) -> None:
        self._answers.pop(identity, None)
        self._answers[identity] = answer
        if len(self._answers) > ANSWERS_MAX:
            del self._answers[next(iter(self._answers))]


class RecentDirectory:
    """The directory behind `shared`, with answers that may be `ttl` seconds old."""

    def __init__(self, shared: SharedDirectory, ttl: float) -> None:
        self.open, self.close = shared.open, shared.close
        self.find = partial(shared.find_recent, ttl=ttl)


def _copy(error: BrokerError) -> BrokerError:
    """Return the same error without traceback and context."""
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    return copy


def recent(directory: Directory, ttl: float = ANSWER_TTL) -> Directory:
    """Return `directory`, or one with answers up to `ttl` seconds old if it is shared."""
    return RecentDirectory(directory, ttl) if isinstance(directory, SharedDirectory) else directory
