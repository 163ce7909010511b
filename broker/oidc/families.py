"""Checks and ends families: the tokens that follow from one grant."""

from __future__ import annotations

from typing import NamedTuple

from broker.apps.model import App
from broker.identity.errors import UnregisteredUser, UserBlocked
from broker.identity.model import UserProfile
from broker.identity.ports import Directory
from broker.oidc.errors import InvalidGrant
from broker.oidc.model import Family, Grant, subject_shard
from broker.oidc.ports import FamilyState, Grants
from broker.tokens.issuer import VerifiedAccessToken


class ActiveFamily(NamedTuple):
    """A family that works now, and the directory's answer about its user."""

    family: Family
    profile: UserProfile


class Families:
    """Reads families and asks the directory about their users.

    profiles: a directory whose answers may be up to a minute old.
    """

    def __init__(self, *, grants: Grants, profiles: Directory) -> None:
        self._grants = grants
        self._profiles = profiles

    async def find(self, family_id: str, app: App) -> Family | None:
        """Return the family if it works for `app`, or None.  Raises Unavailable."""
        state = await self._grants.get(family_id)
        if state is None or not is_usable(state, app):
            return None
        return state.family

    async def with_profile(self, family_id: str, app: App) -> ActiveFamily | None:
        """Return the family and its user, or None if one of them is not active.

        Raises Unavailable if the directory cannot decide.
        """
        family = await self.find(family_id, app)
        if family is None:
            return None
        try:
            return ActiveFamily(family, await self.profile(family.grant))
        except InvalidGrant:
            return None

    async def is_active(self, token: VerifiedAccessToken, app: App) -> bool:
        """Return whether the token's family works for `app`, and its user is active."""
        family_id = family_of(token)
        return family_id is not None and await self.with_profile(family_id, app) is not None

    async def profile(self, grant: Grant) -> UserProfile:
        """Return the present profile of the user.

        Raises InvalidGrant for a user who is blocked or removed, or who has become another
        subject, and Unavailable if the directory cannot decide.
        """
        try:
            profile = await self._profiles.find(grant.identity)
        except (UnregisteredUser, UserBlocked):
            raise InvalidGrant("the user is blocked or no longer registered") from None
        if profile.subject != grant.subject:
            raise InvalidGrant("the directory has another subject for this user now")
        return profile

    async def end(self, family_id: str) -> None:
        """End a family. It does not work again."""
        await self._grants.drop(family_id)


def is_usable(state: FamilyState, app: App) -> bool:
    """Return whether the family works, and for this app.

    An app that was removed and added again under its id is another app.
    """
    grant = state.family.grant
    return state.is_active and (grant.app, grant.incarnation) == (app.id, app.incarnation)


def family_of(token: VerifiedAccessToken) -> str | None:
    """Return the id of the token's family, or None for a token that belongs to none.

    A token of a code or a refresh names it in its `jti`. The first token of the device grant has
    the id of its login, from which the family's id is made. A token without a sign-in session
    was issued without a grant that could end.
    """
    if token.sid is None:
        return None
    family, dot, _ = token.id.partition(".")
    return family if dot else login_family(token.subject, token.id)


def login_family(subject: str, login_id: str) -> str:
    """Return the id of the family of a login on a device.

    A login on a page has no family. A report drops this id, so that its chats end.
    """
    return subject_shard(subject) + login_id[1:]
