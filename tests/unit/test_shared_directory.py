"""Tests of the shared directory: one lookup per user at a time, and briefly cached answers."""

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
    recent,
)
from broker.errors import RateLimited
from broker.identity.errors import DirectoryUnavailable, UnregisteredUser, UserBlocked
from broker.identity.model import Identity, UserProfile
from tests.support.builders import Clock

ALICE = Identity("pretend", "alice")
BOB = Identity("pretend", "bob")


class HeldDirectory:
    """A directory that counts lookups and answers when a test allows it."""

    def __init__(self) -> None:
        self.calls = 0
        self.at_once = 0
        self.answer: Callable[[Identity], str] = lambda identity: identity.id
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def open(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def find(self, identity: Identity) -> UserProfile:
        self.calls += 1
        answer = self.answer
        await self.may_answer.wait()
        return UserProfile(subject=answer(identity))

    def refuse(self, error: Exception) -> None:
        def answer(identity: Identity) -> str:
            raise error

        self.answer = answer


async def subjects(*finds: asyncio.Task[UserProfile]) -> list[str]:
    return [profile.subject for profile in await asyncio.gather(*finds)]


@pytest.fixture
def directory() -> HeldDirectory:
    return HeldDirectory()


@pytest.fixture
def shared(directory: HeldDirectory, clock: Clock) -> SharedDirectory:
    return SharedDirectory(directory, clock=clock)


async def begin(*finds: asyncio.Task[UserProfile]) -> None:
    """Let the tasks run until they wait."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_calls_during_a_lookup_share_the_next_lookup(
    directory: HeldDirectory, shared: SharedDirectory
) -> None:
    directory.may_answer.clear()
    first = asyncio.create_task(shared.find(ALICE))
    await begin(first)
    others = [asyncio.create_task(shared.find(ALICE)) for _ in range(9)]
    bob = asyncio.create_task(shared.find(BOB))
    await begin(*others, bob)

    assert directory.calls == 2  # one each for alice and bob
    directory.may_answer.set()

    assert await subjects(first, *others, bob) == ["alice"] * 10 + ["bob"]
    assert directory.calls == 3


async def test_answer_is_never_older_than_its_call(
    directory: HeldDirectory, shared: SharedDirectory
) -> None:
    directory.may_answer.clear()
    before = asyncio.create_task(shared.find(ALICE))
    await begin(before)
    directory.refuse(UserBlocked())
    after = asyncio.create_task(shared.find(ALICE))
    await begin(after)

    directory.may_answer.set()

    assert (await before).subject == "alice"
    with pytest.raises(UserBlocked):
        await after


async def test_cancelled_call_does_not_affect_other_calls(
    directory: HeldDirectory, shared: SharedDirectory
) -> None:
    directory.may_answer.clear()
    finds = [asyncio.create_task(shared.find(ALICE)) for _ in range(3)]
    await begin(*finds)

    finds[0].cancel()
    await begin(*finds)
    directory.may_answer.set()

    assert await subjects(*finds[1:]) == ["alice", "alice"]


@pytest.mark.parametrize("refusal", [UnregisteredUser, UserBlocked])
async def test_refusal_is_cached_briefly(
    directory: HeldDirectory, shared: SharedDirectory, clock: Clock, refusal: type[Exception]
) -> None:
    directory.refuse(refusal())
    for _ in range(3):
        with pytest.raises(refusal):
            await shared.find(ALICE)
    assert directory.calls == 1

    directory.answer = lambda identity: "user-1"
    clock.time += ANSWER_TTL

    assert (await shared.find(ALICE)).subject == "user-1"


async def test_refusal_is_not_cached_if_its_ttl_is_zero(
    directory: HeldDirectory, clock: Clock
) -> None:
    shared = SharedDirectory(directory, refusal_ttl=0, clock=clock)
    directory.refuse(UnregisteredUser())
    with pytest.raises(UnregisteredUser):
        await shared.find(ALICE)

    directory.answer = lambda identity: "user-1"

    assert (await shared.find(ALICE)).subject == "user-1"


async def test_subject_is_cached_for_recent_answers_only(
    directory: HeldDirectory, shared: SharedDirectory, clock: Clock
) -> None:
    await shared.find_recent(ALICE)
    await shared.find_recent(ALICE)
    assert directory.calls == 1
    await shared.find(ALICE)
    assert directory.calls == 2

    clock.time += ANSWER_TTL
    await shared.find_recent(ALICE)

    assert directory.calls == 3


async def test_recent_directory_requests_again_after_its_limit(
    directory: HeldDirectory, shared: SharedDirectory, clock: Clock
) -> None:
    profiles = recent(shared, 60.0)
    await profiles.find(ALICE)
    clock.time += 59
    await profiles.find(ALICE)
    assert directory.calls == 1

    clock.time += 1
    await profiles.find(ALICE)

    assert directory.calls == 2


async def test_cached_refusal_references_no_frames_of_calls(
    directory: HeldDirectory, shared: SharedDirectory
) -> None:
    class Request:
        """An object in the frame of a caller."""

    def refuse(identity: Identity) -> str:
        raise UserBlocked  # a new error each time: a shared one would reference the frames

    async def ask(request: Request) -> None:
        await shared.find(ALICE)

    directory.answer = refuse
    request = Request()
    seen = weakref.ref(request)

    for _ in range(2):  # the first answer and the cached one
        with suppress(UserBlocked):
            await ask(request)
    del request
    gc.collect()

    assert seen() is None


async def test_copied_refusal_has_the_same_response(
    directory: HeldDirectory, shared: SharedDirectory
) -> None:
    directory.refuse(UnregisteredUser("unknown user", register_url="https://site.example/"))

    bodies = []
    for _ in range(2):
        with pytest.raises(UnregisteredUser) as raised:
            await shared.find(ALICE)
        bodies.append(raised.value.body())

    assert directory.calls == 1
    assert bodies[0] == bodies[1]
    assert bodies[0]["error_description"] == "unknown user"
    assert bodies[0]["register_url"] == "https://site.example/"


async def test_failure_is_not_cached(directory: HeldDirectory, shared: SharedDirectory) -> None:
    directory.refuse(DirectoryUnavailable("down", 2))
    for _ in range(2):
        with pytest.raises(DirectoryUnavailable):
            await shared.find_recent(ALICE)

    assert directory.calls == 2


async def test_lookups_of_one_user_are_limited(
    directory: HeldDirectory, shared: SharedDirectory, clock: Clock
) -> None:
    for _ in range(REQUESTS_MAX):
        await shared.find(ALICE)

    with pytest.raises(RateLimited) as limited:
        await shared.find(ALICE)
    assert limited.value.retry_after == WINDOW
    assert (await shared.find(BOB)).subject == "bob"
    clock.time += WINDOW
    assert (await shared.find(ALICE)).subject == "alice"


async def test_memory_does_not_grow_with_users(
    directory: HeldDirectory, shared: SharedDirectory
) -> None:
    for number in range(ANSWERS_MAX + 10):
        await shared.find(Identity("pretend", str(number)))

    assert len(shared._answers) == ANSWERS_MAX
    assert not shared._requests


async def test_lookups_of_all_users_are_bounded(
    directory: HeldDirectory, shared: SharedDirectory
) -> None:
    directory.may_answer.clear()
    people = [Identity("pretend", f"person-{number}") for number in range(CONCURRENT_MAX + 8)]
    finds = [asyncio.create_task(shared.find(person)) for person in people]
    await begin(*finds)

    assert directory.calls == CONCURRENT_MAX
    directory.may_answer.set()

    assert await subjects(*finds) == [person.id for person in people]
