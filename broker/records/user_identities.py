"""Statements on identities, for use inside a transaction.

An identity belongs to one user. A user may have several, one for each app of a provider.
Identities with the same `unionid` belong to one person, and so to one user.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, RowMapping, Select, and_, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.identity.model import Identity, UserProfile
from broker.identity.rules import CLAIM_RULES
from broker.records import tables as t
from broker.users.errors import IdentityAlreadyLinked

IDENTITY_LOCK = 0x5CA10620
"""Key of PostgreSQL's advisory lock for links of identities; any number but `MIGRATION_LOCK`."""


class IdentityOwner(NamedTuple):
    """The user of an identity. unionid: as it is stored for the identity."""

    profile: UserProfile
    blocked: bool
    unionid: str | None

    @property
    def user_id(self) -> str:
        return self.profile.subject


def parse_profile(row: RowMapping) -> UserProfile:
    """Return the profile of a row of `users`."""
    claims = {name: row[name] for name in CLAIM_RULES if row[name] is not None}
    if "groups" in claims:
        claims["groups"] = tuple(claims["groups"])
    return UserProfile(subject=row["id"], **claims)


async def lock_identities(connection: AsyncConnection) -> None:
    """Let no other transaction link an identity until this one ends."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time
        await connection.execute(select(func.pg_advisory_xact_lock(IDENTITY_LOCK)))


async def find_owner(connection: AsyncConnection, identity: Identity) -> IdentityOwner | None:
    return await _owner(connection, _is(identity))


async def find_owner_by_unionid(
    connection: AsyncConnection, identity: Identity
) -> IdentityOwner | None:
    """Return the user of another identity with the same `unionid`."""
    if identity.unionid is None:
        return None
    row = t.identities.c
    return await _owner(
        connection, and_(row.provider == identity.provider, row.unionid == identity.unionid)
    )


async def link_identity(
    connection: AsyncConnection, identity: Identity, user_id: str, now: float
) -> None:
    """Link `identity` to the user, or update its `unionid`. Call `lock_identities` before.

    Raises IdentityAlreadyLinked if another user has the identity or its `unionid`.
    """
    owner = await find_owner(connection, identity)
    same_person = await find_owner_by_unionid(connection, identity)
    if any(user is not None and user.user_id != user_id for user in (owner, same_person)):
        raise IdentityAlreadyLinked
    if owner is None:
        await connection.execute(
            insert(t.identities)
            .values(**_key(identity), unionid=identity.unionid)
            .values(user_id=user_id, created_at=now)
        )
    elif identity.unionid is not None:
        await connection.execute(
            update(t.identities).where(_is(identity)).values(unionid=identity.unionid)
        )


async def _owner(
    connection: AsyncConnection, condition: ColumnElement[bool]
) -> IdentityOwner | None:
    # If operators have added two users for one person, the first one counts.
    first = _owners().where(condition).order_by(t.identities.c.created_at, t.users.c.id).limit(1)
    row = (await connection.execute(first)).mappings().one_or_none()
    return IdentityOwner(parse_profile(row), row["blocked"], row["unionid"]) if row else None


def _owners() -> Select[tuple[Any, ...]]:
    return select(t.users, t.identities.c.unionid).join_from(t.users, t.identities)


def _is(identity: Identity) -> ColumnElement[bool]:
    return and_(*(t.identities.c[name] == value for name, value in _key(identity).items()))


def _key(identity: Identity) -> dict[str, str]:
    return {
        "provider": identity.provider,
        "provider_app_id": identity.provider_app_id,
        "openid": identity.id,
    }
