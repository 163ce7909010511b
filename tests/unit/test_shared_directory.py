"""What one person may ask of a directory: one question at a time, a few, briefly kept answers."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from contextlib import suppress

import pytest

from broker.directories.shared import (
    ANSWER_TTL,
    ANSWERS_MAX,
    CONCURRENT_MAX,
    REQUESTS_MAX,
    WINDOW,
    SharedDirectory,
)
from broker.errors import RateLimited
from broker.identity.errors import DirectoryUnavailable, UnregisteredUser, UserBlocked
from broker.identity.model import Identity
from tests.support.builders import Clock

ALICE = Identity("pretend", "alice")
BOB = Identity("pretend", "bob")


class Slow:
    """A directory whose answers can be held back, and that counts its questions."""

    def __init__(self) -> None:
        self.asked = 0
        self.at_once = 0
        self.answer: Callable[[Identity], str] = lambda identity: identity.id
        self.goes = asyncio.Event()
        self.goes.set()

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def find(self, identity: Identity) -> str:
        self.asked += 1
        answer = self.answer
        await self.goes.wait()
        return answer(identity)

    def refuse(self, error: Exception) -> None:
        def answer(identity: Identity) -> str:
            raise error

        self.answer = answer


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def shared(slow: Slow, clock: Clock) -> SharedDirectory:
    return SharedDirectory(slow, clock=clock)


async def begin(*finds: asyncio.Task[str]) -> None:
    """Let the tasks run until they wait."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_calls_during_a_question_share_the_next_one(
    slow: Slow, shared: SharedDirectory
) -> None:
    slow.goes.clear()
    first = asyncio.create_task(shared.find(ALICE))
    await begin(first)
    others = [asyncio.create_task(shared.find(ALICE)) for _ in range(9)]
    bob = asyncio.create_task(shared.find(BOB))
    await begin(*others, bob)

    assert slow.asked == 2  # one each for alice and bob
    slow.goes.set()

    assert await asyncio.gather(first, *others, bob) == ["alice"] * 10 + ["bob"]
    assert slow.asked == 3


async def test_answer_is_never_older_than_its_call(slow: Slow, shared: SharedDirectory) -> None:
    slow.goes.clear()
    before = asyncio.create_task(shared.find(ALICE))
    await begin(before)
    slow.refuse(UserBlocked())
    after = asyncio.create_task(shared.find(ALICE))
    await begin(after)

    slow.goes.set()

    assert await before == "alice"
    with pytest.raises(UserBlocked):
        await after


async def test_cancelled_caller_leaves_the_others_their_answer(
    slow: Slow, shared: SharedDirectory
) -> None:
    slow.goes.clear()
    finds = [asyncio.create_task(shared.find(ALICE)) for _ in range(3)]
    await begin(*finds)

    finds[0].cancel()
    await begin(*finds)
    slow.goes.set()

    assert await asyncio.gather(*finds[1:]) == ["alice", "alice"]


@pytest.mark.parametrize("refusal", [UnregisteredUser, UserBlocked])
async def test_refusal_is_kept_briefly(
    slow: Slow, shared: SharedDirectory, clock: Clock, refusal: type[Exception]
) -> None:
    slow.refuse(refusal())
    for _ in range(3):
        with pytest.raises(refusal):
            await shared.find(ALICE)
    assert slow.asked == 1

    slow.answer = lambda identity: "user-1"
    clock.time += ANSWER_TTL

    assert await shared.find(ALICE) == "user-1"


async def test_refusal_is_not_kept_where_its_time_is_zero(slow: Slow, clock: Clock) -> None:
    shared = SharedDirectory(slow, refusal_ttl=0, clock=clock)
    slow.refuse(UnregisteredUser())
    with pytest.raises(UnregisteredUser):
        await shared.find(ALICE)

    slow.answer = lambda identity: "user-1"

    assert await shared.find(ALICE) == "user-1"


async def test_subject_is_kept_for_recent_answers_only(
    slow: Slow, shared: SharedDirectory, clock: Clock
) -> None:
    await shared.find_recent(ALICE)
    await shared.find_recent(ALICE)
    assert slow.asked == 1
    await shared.find(ALICE)
    assert slow.asked == 2

    clock.time += ANSWER_TTL
    await shared.find_recent(ALICE)

    assert slow.asked == 3


async def test_kept_refusal_holds_no_frames_of_calls(slow: Slow, shared: SharedDirectory) -> None:
    class Request:
        """What a caller has in its frame."""

    def refuse(identity: Identity) -> str:
        raise UserBlocked  # a new error each time: a kept one would hold the frames itself

    async def ask(request: Request) -> None:
        await shared.find(ALICE)

    slow.answer = refuse
    request = Request()
    seen = weakref.ref(request)

    for _ in range(2):  # the first answer, and the kept one
        with suppress(UserBlocked):
            await ask(request)
    del request
    gc.collect()

    assert seen() is None


async def test_copied_refusal_says_the_same(slow: Slow, shared: SharedDirectory) -> None:
    slow.refuse(UnregisteredUser("who is that", register_url="https://site.example/"))

    bodies = []
    for _ in range(2):
        with pytest.raises(UnregisteredUser) as raised:
            await shared.find(ALICE)
        bodies.append(raised.value.body())

    assert slow.asked == 1
    assert bodies[0] == bodies[1]
    assert bodies[0]["error_description"] == "who is that"
    assert bodies[0]["register_url"] == "https://site.example/"


async def test_failure_is_not_kept(slow: Slow, shared: SharedDirectory) -> None:
    slow.refuse(DirectoryUnavailable("down", 2))
    for _ in range(2):
        with pytest.raises(DirectoryUnavailable):
            await shared.find_recent(ALICE)

    assert slow.asked == 2


async def test_requests_for_one_person_are_limited(
    slow: Slow, shared: SharedDirectory, clock: Clock
) -> None:
    for _ in range(REQUESTS_MAX):
        await shared.find(ALICE)

    with pytest.raises(RateLimited) as limited:
        await shared.find(ALICE)
    assert limited.value.retry_after == WINDOW
    assert await shared.find(BOB) == "bob"
    clock.time += WINDOW
    assert await shared.find(ALICE) == "alice"


async def test_nothing_grows_with_persons(slow: Slow, shared: SharedDirectory) -> None:
    for number in range(ANSWERS_MAX + 10):
        await shared.find(Identity("pretend", str(number)))

    assert len(shared._answers) == ANSWERS_MAX
    assert not shared._requests


async def test_requests_for_all_persons_are_bounded(slow: Slow, shared: SharedDirectory) -> None:
    slow.goes.clear()
    people = [Identity("pretend", f"person-{number}") for number in range(CONCURRENT_MAX + 8)]
    finds = [asyncio.create_task(shared.find(person)) for person in people]
    await begin(*finds)

    assert slow.asked == CONCURRENT_MAX
    slow.goes.set()

    assert await asyncio.gather(*finds) == [person.id for person in people]
