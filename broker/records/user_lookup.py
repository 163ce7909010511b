"""Who is who here: asked when a person confirms, and when one accepts an invitation."""

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
from broker.identity.errors import UserBlocked
from broker.identity.model import Identity
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
"""By whom an invitation is used that nobody has shown yet."""


class Invited(NamedTuple):
    """The user that an invitation is for, and whether the invitation is still unused."""

    user: RegisteredUser
    is_unused: bool


class SqlUserLookup:
    """clock: Unix time in seconds.  Every method raises RecordsUnavailable."""

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def find(self, identity: Identity) -> str | None:
        """The id of the user whose `identity` is, by one statement; None where it is nobody's.

        Raises UserBlocked.
        """
        if not _is_storable(identity):
            return None
        async with self._database.read_connection() as connection:
            known = await find_owner(connection, identity)
        if known is None:
            return None
        if identity.unionid not in (None, known.unionid):
            await self._note(identity, known)
        return _unblocked(known)

    async def link_by_unionid(self, identity: Identity) -> str | None:
        """Make `identity` the user's who is the same person in another of the provider's apps.

        Of instances that do so at once all get the same answer.  None where there is no
        such user.  Raises UserBlocked.
        """
        if not _is_storable(identity):
            return None
        async with self._database.read_connection() as connection:
            if await find_owner_by_unionid(connection, identity) is None:
                return None  # so that strangers, who may come in crowds, lock nothing
        try:
            async with self._database.write_transaction() as connection:
                await lock_identities(connection)
                same = await find_owner(connection, identity) or await find_owner_by_unionid(
                    connection, identity
                )
                if same is None:
                    return None
                await link_identity(connection, identity, same.user_id, self._clock())
        except IntegrityError:  # the user was removed meanwhile
            return None
        return _unblocked(same)

    async def register(self, identity: Identity, invitation: str) -> RegisteredUser:
        """Bind `identity` to the invited user. An invitation binds one identity, once.

        A repeat by the same identity, such as after a lost answer, returns the same user and
        binds nothing.
        Raises InvalidInvitation, IdentityAlreadyLinked or UserBlocked; the invitation stays
        unused then.
        """
        if not _is_storable(identity):
            raise InvalidRequest("the provider's id for this person is too odd to be kept")
        async with self._database.read_connection() as connection:
            invited = await self._invited(
                connection, identity, invitation
            )  # wrong invitations take no lock
        if not invited.is_unused:
            return invited.user
        try:
            async with self._database.write_transaction() as connection:
                await lock_identities(connection)
                invited = await self._invited(connection, identity, invitation)
                if invited.is_unused:
                    await link_identity(connection, identity, invited.user.subject, self._clock())
                    await _use(connection, identity, invitation)
        except IntegrityError:  # the user was removed meanwhile
            raise InvalidInvitation from None
        return invited.user

    async def _invited(
        self, connection: AsyncConnection, identity: Identity, invitation: str
    ) -> Invited:
        """Return the user the invitation is for; raises InvalidInvitation or UserBlocked.

        A used invitation is unknown unless `identity` used it and is still this user's.
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
            known = await find_owner(connection, identity)
            if known is None or known.user_id != invited.id:
                raise InvalidInvitation
        if invited.blocked:
            raise UserBlocked
        return Invited(RegisteredUser(invited.id, invited.name), is_unused)

    async def _note(self, identity: Identity, known: IdentityOwner) -> None:
        """Write down that the provider now has a `unionid`, or another, for this person."""
        with suppress(IntegrityError):  # the user was removed meanwhile
            async with self._database.write_transaction() as connection:
                await lock_identities(connection)
                try:
                    await link_identity(connection, identity, known.user_id, self._clock())
                except IdentityAlreadyLinked:
                    log.warning("two users are one person", user=known.user_id)


async def _use(connection: AsyncConnection, identity: Identity, invitation: str) -> None:
    names = ("provider", "provider_app_id", "openid")
    used = dict(zip(names, _used_by(identity), strict=True))
    is_it = t.invitations.c.secret_hash == hash_invitation(invitation)
    await connection.execute(update(t.invitations).where(is_it).values(used))


def _used_by(identity: Identity) -> tuple[str, str, str]:
    return identity.provider, identity.provider_app_id, identity.id


def hash_invitation(invitation: str) -> bytes:
    """Of 192 random bits, so that no slow hash is needed."""
    return hashlib.sha256(invitation.encode()).digest()


def _unblocked(known: IdentityOwner) -> str:
    if known.blocked:
        raise UserBlocked
    return known.user_id


def _is_storable(identity: Identity) -> bool:
    """Whether a database takes it: no id of WeChat's is refused, but many made-up ones."""
    ids = (identity.id, identity.provider_app_id, identity.unionid or "")
    return all(one.isprintable() and len(one) <= ID_MAX for one in ids)
