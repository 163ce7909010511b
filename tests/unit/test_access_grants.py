"""Tests of the grants of access tokens, which outlive the tokens as sign-in sessions do."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from pydantic import ValidationError

from broker.chat.settings import ChatSettings
from broker.directories.open import OpenDirectory
from broker.oidc.access_grants import EXPIRY_TOLERANCE, AccessGrants
from broker.oidc.families import Families
from broker.oidc.model import Family, SignIn
from broker.oidc.ports import DROPPED_TTL
from broker.state import StateBackend, open_state
from broker.tokens.model import AccessGrant
from tests.support.builders import Clock
from tests.support.grants import a_family, a_grant, a_sign_in


class Scene(NamedTuple):
    state: StateBackend
    grants: AccessGrants
    sign_in: SignIn
    family: Family

    async def is_active(self, ends_at: float) -> bool:
        grant = AccessGrant(self.family.grant.family, self.sign_in.sid, ends_at)
        return await self.grants.is_active(grant, self.sign_in.subject)


@pytest.fixture
async def scene(clock: Clock) -> Scene:
    state = open_state("memory://", clock)
    families = Families(grants=state.grants, profiles=OpenDirectory())
    grants = AccessGrants(
        families=families, grants=state.grants, sign_ins=state.sign_ins, clock=clock
    )
    sign_in = a_sign_in(clock)
    family = a_family(clock, a_grant(sign_in))
    await state.sign_ins.save(sign_in, clock() + 10_000)
    await state.grants.save(family)
    return Scene(state, grants, sign_in, family)


async def test_expired_family_leaves_its_sign_in_active(scene: Scene, clock: Clock) -> None:
    ends_at = scene.family.expires_at
    clock.time = ends_at - EXPIRY_TOLERANCE
    assert await scene.is_active(ends_at)

    clock.time = ends_at + 1
    assert await scene.is_active(ends_at)

    await scene.state.sign_ins.end(scene.sign_in.subject, scene.sign_in.sid)
    assert not await scene.is_active(ends_at)


async def test_expired_family_with_refresh_tokens_is_inactive(scene: Scene, clock: Clock) -> None:
    clock.time = scene.family.expires_at + 1

    assert not await scene.is_active(ends_at=0)


@pytest.mark.parametrize("ends_at", [0, 1_000_000_000_000])
async def test_dropped_family_is_inactive(scene: Scene, ends_at: float) -> None:
    await scene.state.grants.drop(scene.family.grant.family)

    assert not await scene.is_active(ends_at)


async def test_dropped_family_stays_inactive_after_its_end(scene: Scene, clock: Clock) -> None:
    ends_at = scene.family.expires_at
    await scene.state.grants.drop(scene.family.grant.family)

    clock.time = ends_at + 1
    assert not await scene.is_active(ends_at)


def test_drop_is_remembered_longer_than_a_chat_session() -> None:
    longest = 86_400
    ChatSettings(chat_session_lifetime=longest)
    with pytest.raises(ValidationError):
        ChatSettings(chat_session_lifetime=longest + 1)

    assert longest < DROPPED_TTL
