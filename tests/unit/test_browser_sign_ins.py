"""Sign-in sessions of browsers: which apps read them, and the directory's answers about users."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.apps.registry import AppRegistry
from broker.directories.open import OpenDirectory
from broker.errors import BrokerError, RateLimited, Unavailable
from broker.identity.errors import UnregisteredUser, UserBlocked
from broker.identity.model import Identity, UserProfile
from broker.oidc.browser_sign_ins import BrowserSignIns
from broker.oidc.model import SignIn, hash_secret, subject_shard
from broker.oidc.sign_ins import SignInLifetimes, SignInService
from broker.state import StateBackend
from tests.support.builders import SHOP, Clock, RecordingTrail
from tests.support.grants import SUBJECT, a_sign_in

COOKIE = subject_shard(SUBJECT) + "c" * 42


class RefusingDirectory(OpenDirectory):
    def __init__(self, error: BrokerError) -> None:
        self._error = error

    async def find(self, identity: Identity) -> UserProfile:
        raise self._error


class NoApps:
    async def prepare(self, sign_in: SignIn) -> None:
        """Inform no app."""

    async def announce(self, sign_in: SignIn, reason: str) -> None:
        """Inform no app."""


def browser_sign_ins(store: StateBackend, clock: Clock, error: BrokerError) -> BrowserSignIns:
    service = SignInService(
        sign_ins=store.sign_ins,
        grants=store.grants,
        logouts=NoApps(),
        trail=RecordingTrail(),
        lifetimes=SignInLifetimes(600, 3_600),
        clock=clock,
    )
    return BrowserSignIns(
        sign_ins=store.sign_ins,
        service=service,
        apps=AppRegistry([]),
        profiles=RefusingDirectory(error),
        clock=clock,
        is_open=True,
    )


@pytest.mark.parametrize("sso", [True, False])
async def test_session_is_read_for_apps_with_sso_only(
    store: StateBackend, clock: Clock, sso: bool
) -> None:
    sign_in = replace(a_sign_in(clock), cookie_hash=hash_secret(COOKIE))
    await store.sign_ins.save(sign_in, clock() + 600)
    sign_ins = browser_sign_ins(store, clock, UserBlocked())

    found = await sign_ins.shared(COOKIE, replace(SHOP, sso=sso))

    assert found == (sign_in if sso else None)


@pytest.mark.parametrize("error", [UserBlocked(), UnregisteredUser()], ids=str)
async def test_refused_user_loses_all_sessions(
    store: StateBackend, clock: Clock, error: BrokerError
) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 600)

    assert await browser_sign_ins(store, clock, error).profile(sign_in) is None

    assert list(await store.sign_ins.of_subject(SUBJECT)) == []


@pytest.mark.parametrize("error", [RateLimited(3), Unavailable()], ids=str)
async def test_busy_directory_ends_no_session(
    store: StateBackend, clock: Clock, error: BrokerError
) -> None:
    sign_in = a_sign_in(clock)
    await store.sign_ins.save(sign_in, clock() + 600)

    with pytest.raises(type(error)):
        await browser_sign_ins(store, clock, error).profile(sign_in)

    assert list(await store.sign_ins.of_subject(SUBJECT)) == [sign_in]
