"""Finds the user of an identity, and links identities by unionid or invitation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import structlog
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.errors import InvalidRequest
from broker.identity.errors import UnregisteredUser, UserBlocked
from broker.identity.model import Identity, UserProfile
from broker.records import tables as t
from broker.records.database import Database
from broker.records.user_identities import (
    IdentityOwner,
    find_owner,
    find_owner_by_unionid,
    link_identity,
    lock_identities,
)
from broker.users.errors import IdentityAlreadyLinked, InvalidInvitation
from broker.users.model import RegisteredUser
from broker.users.rules import ID_MAX

log = structlog.get_logger()


UNUSED_INVITATION = (None, None, None)
"""The identity columns of an unused invitation."""


class Invited(NamedTuple):
    """The user that an invitation is for, and whether the invitation is still unused."""

    user: RegisteredUser
    is_unused: bool


class SqlUserLookup:
    """Finds and links users.

    clock: Unix time in seconds.
    Every method raises RecordsUnavailable.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def find(self, identity: Identity) -> UserProfile | None:
        """Return the user who has `identity`, or None. It takes one statement.

        Raises UserBlocked.
        """
        if not _is_storable(identity):
            return None
        async with self._database.read_connection() as connection:
            owner = await find_owner(connection, identity)
        if owner is None:
            return None
        if identity.unionid not in (None, owner.unionid):
            await self._update_unionid(identity, owner)
        return _unblocked_profile(owner)

    async def link_by_unionid(self, identity: Identity) -> UserProfile | None:
        """Link `identity` to the user with the same `unionid`, known from another app.

        Returns the user, or None if there is no such user. Concurrent calls of several
        instances return the same user. Raises UserBlocked.
        """
        if not _is_storable(identity):
            return None
        async with self._database.read_connection() as connection:
            if await find_owner_by_unionid(connection, identity) is None:
                return None  # unknown identities take no lock
        try:
            async with self._database.write_transaction() as connection:
                await lock_identities(connection)
                owner = await find_owner(connection, identity) or await find_owner_by_unionid(
                    connection, identity
                )
                if owner is None:
                    return None
                await link_identity(connection, identity, owner.user_id, self._clock())
        except IntegrityError:  # the user was deleted in the meantime
            return None
        return _unblocked_profile(owner)

    async def set_phone_number(self, identity: Identity, number: str) -> None:
        """Store the verified number of the user who has `identity`.

        Raises UnregisteredUser or UserBlocked.
        """
        profile = await self.find(identity)
        if profile is None:
            raise UnregisteredUser
        values = {
            "phone_number": number,
            "phone_number_verified": True,
            "changed_at": self._clock(),
        }
        async with self._database.write_transaction() as connection:
            await connection.execute(update(t.users).filter_by(id=profile.subject).values(values))

    async def register(self, identity: Identity, invitation: str) -> RegisteredUser:
        """Link `identity` to the invited user. An invitation links one identity, once.

        A repeated call with the same identity, such as after a lost response, returns the same
        user and changes nothing.
        Raises InvalidInvitation, IdentityAlreadyLinked or UserBlocked; the invitation stays
        unused then.
        """
        if not _is_storable(identity):
            raise InvalidRequest("the provider's id of this user cannot be stored")
        async with self._database.read_connection() as connection:
            # Invalid invitations take no lock.
            invited = await self._invited(connection, identity, invitation)
        if not invited.is_unused:
            return invited.user
        try:
            async with self._database.write_transaction() as connection:
                await lock_identities(connection)
                invited = await self._invited(connection, identity, invitation)
                if invited.is_unused:
                    await link_identity(connection, identity, invited.user.subject, self._clock())
                    await _use(connection, identity, invitation)
        except IntegrityError:  # the user was deleted in the meantime
            raise InvalidInvitation from None
        return invited.user

    async def _invited(
        self, connection: AsyncConnection, identity: Identity, invitation: str
    ) -> Invited:
        """Return the user of the invitation. Raises InvalidInvitation or UserBlocked.

        A used invitation is invalid unless `identity` used it and still belongs to this user.
        """
        row, user = t.invitations.c, t.users.c
        columns = (user.id, user.name, user.blocked, row.provider, row.provider_app_id, row.openid)
        found = await connection.execute(
            select(*columns)
            .join_from(t.invitations, t.users)
            .where(row.secret_hash == hash_invitation(invitation))
            .where(row.expires_at > self._clock())
        )
        invited = found.one_or_none()
        if invited is None or tuple(invited[3:]) not in (UNUSED_INVITATION, _used_by(identity)):
            raise InvalidInvitation
        is_unused = invited.provider is None
        if not is_unused:
            owner = await find_owner(connection, identity)
            if owner is None or owner.user_id != invited.id:
                raise InvalidInvitation
        if invited.blocked:
            raise UserBlocked
        return Invited(RegisteredUser(invited.id, invited.name), is_unused)

    async def _update_unionid(self, identity: Identity, owner: IdentityOwner) -> None:
        """Store the identity's new `unionid`."""
        with suppress(IntegrityError):  # the user was deleted in the meantime
            async with self._database.write_transaction() as connection:
                await lock_identities(connection)
                try:
                    await link_identity(connection, identity, owner.user_id, self._clock())
                except IdentityAlreadyLinked:
                    log.warning("unionid belongs to another user", user=owner.user_id)


async def _use(connection: AsyncConnection, identity: Identity, invitation: str) -> None:
    names = ("provider", "provider_app_id", "openid")
    columns = dict(zip(names, _used_by(identity), strict=True))
    is_invitation = t.invitations.c.secret_hash == hash_invitation(invitation)
    await connection.execute(update(t.invitations).where(is_invitation).values(columns))


def _used_by(identity: Identity) -> tuple[str, str, str]:
    return identity.provider, identity.provider_app_id, identity.id


def hash_invitation(invitation: str) -> bytes:
    """Hash an invitation of 176 random bits, which needs no slow hash."""
    return hashlib.sha256(invitation.encode()).digest()


def _unblocked_profile(owner: IdentityOwner) -> UserProfile:
    if owner.blocked:
        raise UserBlocked
    return owner.profile


def _is_storable(identity: Identity) -> bool:
    """Return whether a database accepts the ids. It accepts all ids of WeChat."""
    ids = (identity.id, identity.provider_app_id, identity.unionid or "")
    return all(text.isprintable() and len(text) <= ID_MAX for text in ids)
