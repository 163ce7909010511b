"""Whose an identity is, and how it becomes somebody's: statements, within a transaction.

An identity is one user's.  A user has many: one for each of a provider's apps.  Those
with one `unionid` are one person, so they are one user's.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, and_, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.identity.model import Identity
from broker.records import tables as t
from broker.users.errors import IdentityAlreadyLinked

IDENTITY_LOCK = 0x5CA10620
"""PostgreSQL's advisory lock of whoever binds an identity; any number but `MIGRATION_LOCK`."""


class IdentityOwner(NamedTuple):
    """The user whose an identity is.  unionid: as it was last written down for the identity."""

    user_id: str
    name: str | None
    blocked: bool
    unionid: str | None


async def lock_identities(connection: AsyncConnection) -> None:
    """From here to the end of the transaction nobody else binds an identity."""
    if connection.dialect.name == "postgresql":  # in SQLite whoever writes is alone
        await connection.execute(select(func.pg_advisory_xact_lock(IDENTITY_LOCK)))


async def find_owner(connection: AsyncConnection, identity: Identity) -> IdentityOwner | None:
    return await _owner(connection, _is(identity))


async def find_owner_by_unionid(
    connection: AsyncConnection, identity: Identity
) -> IdentityOwner | None:
    """The user of another identity that the provider says is the same person's."""
    if identity.unionid is None:
        return None
    row = t.identities.c
    return await _owner(
        connection, and_(row.provider == identity.provider, row.unionid == identity.unionid)
    )


async def link_identity(
    connection: AsyncConnection, identity: Identity, user_id: str, now: float
) -> None:
    """Make `identity` the user's, and take over what is new in it; wants `lock_identities`.

    Raises IdentityAlreadyLinked for another user's, or where another user is the same person.
    """
    known, same = (
        await find_owner(connection, identity),
        await find_owner_by_unionid(connection, identity),
    )
    if any(one is not None and one.user_id != user_id for one in (known, same)):
        raise IdentityAlreadyLinked
    if known is None:
        await connection.execute(
            insert(t.identities)
            .values(**_key(identity), unionid=identity.unionid)
            .values(user_id=user_id, created_at=now)
        )
    elif identity.unionid is not None:
        await connection.execute(
            update(t.identities).where(_is(identity)).values(unionid=identity.unionid)
        )


async def _owner(connection: AsyncConnection, whose: ColumnElement[bool]) -> IdentityOwner | None:
    # Users of one person's are one, unless operators began with two: then the first.
    first = _owners().where(whose).order_by(t.identities.c.created_at, t.users.c.id).limit(1)
    row = (await connection.execute(first)).one_or_none()
    return IdentityOwner._make(row) if row else None


def _owners() -> Select[tuple[str, str | None, bool, str | None]]:
    columns = (t.users.c.id, t.users.c.name, t.users.c.blocked, t.identities.c.unionid)
    return select(*columns).join_from(t.users, t.identities)


def _is(identity: Identity) -> ColumnElement[bool]:
    return and_(*(t.identities.c[name] == value for name, value in _key(identity).items()))


def _key(identity: Identity) -> dict[str, str]:
    return {
        "provider": identity.provider,
        "provider_app_id": identity.provider_app_id,
        "openid": identity.id,
    }
