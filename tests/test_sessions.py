"""Who holds the phone: proved once, checked at every act."""

from __future__ import annotations

import pytest

from broker.errors import InvalidSession
from broker.login import Identity, Phone
from broker.records.settings import SettingsApps
from broker.sessions import Sessions
from broker.state import Store
from tests.conftest import SHOP, Clock, all_pretend


@pytest.fixture
def sessions(store: Store, clock: Clock) -> Sessions:
    accounts = all_pretend(SettingsApps([SHOP]))
    return Sessions(store=store.sessions, accounts=accounts, clock=clock, lifetime=100)


async def test_a_proof_opens_a_session(sessions: Sessions) -> None:
    opened = await sessions.open(SHOP, "pretend:alice")

    session = await sessions.check(opened.session.id, opened.skey)

    assert session.phone == Phone("shop", Identity("pretend", "alice"))
    assert len(opened.session.id) == 22
    assert len(opened.skey) == 43


async def test_the_skey_itself_is_not_kept(sessions: Sessions, store: Store) -> None:
    opened = await sessions.open(SHOP, "pretend:alice")

    kept = await store.sessions.get(opened.session.id)

    assert opened.skey not in repr(kept)


async def test_two_phones_of_one_person_live_side_by_side(sessions: Sessions) -> None:
    first = await sessions.open(SHOP, "pretend:alice")
    second = await sessions.open(SHOP, "pretend:alice")

    for opened in (first, second):
        assert await sessions.check(opened.session.id, opened.skey)


async def test_unknown_wrong_and_ended_are_answered_alike(sessions: Sessions, clock: Clock) -> None:
    ended = await sessions.open(SHOP, "pretend:alice")
    clock.time += 100
    live = await sessions.open(SHOP, "pretend:alice")

    answers = []
    for session_id, skey in [
        ("unknown", live.skey),
        (live.session.id, ended.skey),
        (live.session.id, ""),
        ("unknown", ""),
        (ended.session.id, ended.skey),
    ]:
        with pytest.raises(InvalidSession) as refusal:
            await sessions.check(session_id, skey)
        answers.append(refusal.value.body())

    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize(
    "js_code", ["alice", "pretend:", "wechat:alice", "pretend:a b", "pretend:a\n", "x" * 256]
)
async def test_what_proves_nothing_opens_nothing(sessions: Sessions, js_code: str) -> None:
    with pytest.raises(InvalidSession):
        await sessions.open(SHOP, js_code)
