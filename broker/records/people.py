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

from broker.errors import IdentityTaken, InvalidRequest, UnknownInvitation, UserBlocked
from broker.login import Identity
from broker.records import tables as t
from broker.records.database import Database
from broker.records.identities import Owner, bind, kin, one_by_one, owner
from broker.records.user_rules import ID_MAX

log = structlog.get_logger()


UNUSED = (None, None, None)
"""By whom an invitation is used that nobody has shown yet."""


class Registered(NamedTuple):
    """The user that a person has become.  name: None where the operator gave none."""

    subject: str
    name: str | None


class Invited(NamedTuple):
    """The user that an invitation is for, and whether the invitation is still unused."""

    user: Registered
    is_unused: bool


class People:
    """clock: Unix time in seconds.  Every method raises RecordsDown."""

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def find(self, identity: Identity) -> str | None:
        """The id of the user whose `identity` is, by one statement; None where it is nobody's.

        Raises UserBlocked.
        """
        if not _can_stand(identity):
            return None
        async with self._database.reading() as connection:
            known = await owner(connection, identity)
        if known is None:
            return None
        if identity.unionid not in (None, known.unionid):
            await self._note(identity, known)
        return _unblocked(known)

    async def join(self, identity: Identity) -> str | None:
        """Make `identity` the user's who is the same person in another of the provider's apps.

        Of instances that do so at once all get the same answer.  None where there is no
        such user.  Raises UserBlocked.
        """
        if not _can_stand(identity):
            return None
        async with self._database.reading() as connection:
            if await kin(connection, identity) is None:
                return None  # so that strangers, who may come in crowds, lock nothing
        try:
            async with self._database.writing() as connection:
                await one_by_one(connection)
                same = await owner(connection, identity) or await kin(connection, identity)
                if same is None:
                    return None
                await bind(connection, identity, same.user_id, self._clock())
        except IntegrityError:  # the user was removed meanwhile
            return None
        return _unblocked(same)

    async def register(self, identity: Identity, invitation: str) -> Registered:
        """Bind `identity` to the invited user. An invitation binds one identity, once.

        A repeat by the same identity, such as after a lost answer, returns the same user and
        binds nothing.
        Raises UnknownInvitation, IdentityTaken or UserBlocked; the invitation stays unused then.
        """
        if not _can_stand(identity):
            raise InvalidRequest("the provider's id for this person is too odd to be kept")
        async with self._database.reading() as connection:
            invited = await self._invited(
                connection, identity, invitation
            )  # wrong invitations take no lock
        if not invited.is_unused:
            return invited.user
        try:
            async with self._database.writing() as connection:
                await one_by_one(connection)
                invited = await self._invited(connection, identity, invitation)
                if invited.is_unused:
                    await bind(connection, identity, invited.user.subject, self._clock())
                    await _use(connection, identity, invitation)
        except IntegrityError:  # the user was removed meanwhile
            raise UnknownInvitation from None
        return invited.user

    async def _invited(
        self, connection: AsyncConnection, identity: Identity, invitation: str
    ) -> Invited:
        """Return the user the invitation is for; raises UnknownInvitation or UserBlocked.

        A used invitation is unknown unless `identity` used it and is still this user's.
        """
        row, user = t.invitations.c, t.users.c
        columns = (user.id, user.name, user.blocked, row.provider, row.provider_app_id, row.openid)
        found = await connection.execute(
            select(*columns)
            .join_from(t.invitations, t.users)
            .where(row.secret_hash == invitation_hash(invitation))
            .where(row.expires_at > self._clock())
        )
        invited = found.one_or_none()
        if invited is None or tuple(invited[3:]) not in (UNUSED, _used_by(identity)):
            raise UnknownInvitation
        is_unused = invited.provider is None
        if not is_unused:
            known = await owner(connection, identity)
            if known is None or known.user_id != invited.id:
                raise UnknownInvitation
        if invited.blocked:
            raise UserBlocked
        return Invited(Registered(invited.id, invited.name), is_unused)

    async def _note(self, identity: Identity, known: Owner) -> None:
        """Write down that the provider now has a `unionid`, or another, for this person."""
        with suppress(IntegrityError):  # the user was removed meanwhile
            async with self._database.writing() as connection:
                await one_by_one(connection)
                try:
                    await bind(connection, identity, known.user_id, self._clock())
                except IdentityTaken:
                    log.warning("two users are one person", user=known.user_id)


async def _use(connection: AsyncConnection, identity: Identity, invitation: str) -> None:
    names = ("provider", "provider_app_id", "openid")
    used = dict(zip(names, _used_by(identity), strict=True))
    is_it = t.invitations.c.secret_hash == invitation_hash(invitation)
    await connection.execute(update(t.invitations).where(is_it).values(used))


def _used_by(identity: Identity) -> tuple[str, str, str]:
    return identity.provider, identity.provider_app_id, identity.id


def invitation_hash(invitation: str) -> bytes:
    """Of 192 random bits, so that no slow hash is needed."""
    return hashlib.sha256(invitation.encode()).digest()


def _unblocked(known: Owner) -> str:
    if known.blocked:
        raise UserBlocked
    return known.user_id


def _can_stand(identity: Identity) -> bool:
    """Whether a database takes it: no id of WeChat's is refused, but many made-up ones."""
    ids = (identity.id, identity.provider_app_id, identity.unionid or "")
    return all(one.isprintable() and len(one) <= ID_MAX for one in ids)
