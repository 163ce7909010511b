"""Users as an operator writes them down, by command or over the admin port."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import RowMapping, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.errors import NoSuchIdentity, NoSuchUser, UserExists, UserWrong
from broker.login import Identity
from broker.records import tables as t
from broker.records.database import Database
from broker.records.identities import bind, one_by_one
from broker.records.people import invitation_hash
from broker.records.rules import checked
from broker.records.user_rules import IDENTITY, INVITATION, INVITATION_LIFETIME, PAGE, USER, USER_ID


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user as one is written down.  created_at, changed_at: Unix time in seconds."""

    id: str
    name: str | None
    blocked: bool
    identities: tuple[Identity, ...] = ()
    created_at: float
    changed_at: float

    def shown(self) -> dict[str, object]:
        return {
            "id": self.id,
            "name": self.name,
            "blocked": self.blocked,
            "identities": [
                {
                    "provider": one.provider,
                    "provider_app_id": one.provider_app_id,
                    "openid": one.id,
                    "unionid": one.unionid,
                }
                for one in self.identities
            ],
            "created_at": self.created_at,
            "changed_at": self.changed_at,
        }


class Invitation(NamedTuple):
    """secret: what a phone shows, 32 URL-safe characters.  expires_in: seconds from now."""

    secret: str
    expires_in: int


class UserBook:
    """providers: whose identities a user may have.  clock: Unix time in seconds.

    Every method raises RecordsDown, and then nothing has changed.
    """

    def __init__(
        self, database: Database, *, providers: Sequence[str], clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._providers = providers
        self._clock = clock

    async def list(self, *, after: str = "", limit: int = PAGE) -> list[User]:
        """Users by id, from the one that follows `after`; at most `limit`."""
        page = select(t.users).where(t.users.c.id > after).order_by(t.users.c.id).limit(limit)
        async with self._database.reading() as connection:
            users = (await connection.execute(page)).mappings().all()
            identities = await _identities(connection, [user["id"] for user in users])
        return [_user(user, identities.get(user["id"], ())) for user in users]

    async def get(self, user_id: str) -> User:
        """Raises NoSuchUser."""
        async with self._database.reading() as connection:
            return await _read(connection, user_id)

    async def add(self, fields: Mapping[str, object]) -> User:
        """Write a user down, under an id of ours where none is said.

        Raises UserWrong or UserExists.
        """
        values = checked({"id": secrets.token_hex(8), **fields}, USER, UserWrong)
        now = {"created_at": self._clock(), "changed_at": self._clock()}
        try:
            async with self._database.writing() as connection:
                await connection.execute(insert(t.users).values({**values, **now}))
                return await _read(connection, str(values["id"]))
        except IntegrityError:
            raise UserExists from None

    async def change(self, user_id: str, fields: Mapping[str, object]) -> User:
        """Write down what is said anew; the rest stays.  Raises UserWrong or NoSuchUser."""
        if "id" in fields:
            raise UserWrong(["id: a user keeps their own"])
        values = {**checked(fields, USER, UserWrong), "changed_at": self._clock()}
        async with self._database.writing() as connection:
            await _read(connection, user_id)
            await connection.execute(update(t.users).filter_by(id=user_id).values(values))
            return await _read(connection, user_id)

    async def remove(self, user_id: str) -> None:
        """Strike a user out, with identities and invitations.  Raises NoSuchUser."""
        async with self._database.writing() as connection:
            await _read(connection, user_id)
            await connection.execute(delete(t.users).filter_by(id=user_id))

    async def link(self, user_id: str, fields: Mapping[str, object]) -> User:
        """Make an identity the user's, of which `unionid` alone may be left out.

        Raises UserWrong, NoSuchUser, or IdentityTaken for another user's.
        """
        identity = self._identity(fields)
        try:
            async with self._database.writing() as connection:
                await one_by_one(connection)
                await _read(connection, user_id)
                await bind(connection, identity, user_id, self._clock())
                return await _read(connection, user_id)
        except IntegrityError:  # the user was removed meanwhile
            raise NoSuchUser from None

    async def unlink(self, user_id: str, fields: Mapping[str, object]) -> User:
        """Remove an identity and all invitations of the user.

        Raises UserWrong, NoSuchUser or NoSuchIdentity.
        """
        identity = self._identity(fields)
        key = {"provider_app_id": identity.provider_app_id, "openid": identity.id}
        gone = delete(t.identities).filter_by(user_id=user_id, provider=identity.provider, **key)
        revoked = delete(t.invitations).filter_by(user_id=user_id)
        async with self._database.writing() as connection:
            await one_by_one(connection)
            await _read(connection, user_id)
            if not (await connection.execute(gone)).rowcount:
                raise NoSuchIdentity
            await connection.execute(revoked)
            return await _read(connection, user_id)

    async def invite(self, user_id: str, fields: Mapping[str, object]) -> Invitation:
        """Let whoever shows what is returned become the user, once, within `expires_in`.

        A former invitation of the user's is worth nothing from then on.
        Raises UserWrong or NoSuchUser.
        """
        said = checked({"expires_in": INVITATION_LIFETIME, **fields}, INVITATION, UserWrong)
        expires_in = said["expires_in"]
        assert isinstance(expires_in, int)  # its rule sees to it
        invitation = Invitation(secrets.token_urlsafe(24), expires_in)
        now, row = self._clock(), t.invitations.c
        new = {
            "secret_hash": invitation_hash(invitation.secret),
            "user_id": user_id,
            "expires_at": now + invitation.expires_in,
        }
        over = delete(t.invitations).where(or_(row.user_id == user_id, row.expires_at <= now))
        try:
            async with self._database.writing() as connection:
                await one_by_one(connection)
                await _read(connection, user_id)
                await connection.execute(over)
                await connection.execute(insert(t.invitations).values(new))
        except IntegrityError:  # the user was removed meanwhile
            raise NoSuchUser from None
        return invitation

    def _identity(self, fields: Mapping[str, object]) -> Identity:
        missing = [name for name in IDENTITY if name not in fields and name != "unionid"]
        if missing:
            raise UserWrong([f"{name}: an identity needs one" for name in missing])
        values = checked({"unionid": None, **fields}, IDENTITY, UserWrong)
        if values["provider"] not in self._providers:
            raise UserWrong([f"provider: want one of {', '.join(self._providers)}"])
        return _named(values)


async def _read(connection: AsyncConnection, user_id: str) -> User:
    if not USER_ID.fullmatch(user_id):
        raise NoSuchUser  # and a database that takes not every character is not asked
    rows = await connection.execute(select(t.users).filter_by(id=user_id))
    row = rows.mappings().one_or_none()
    if row is None:
        raise NoSuchUser
    return _user(row, (await _identities(connection, [user_id])).get(user_id, ()))


async def _identities(
    connection: AsyncConnection, user_ids: Sequence[str]
) -> dict[str, tuple[Identity, ...]]:
    """The users' identities, oldest first."""
    row, found = t.identities.c, dict[str, tuple[Identity, ...]]()
    wanted = select(t.identities).where(row.user_id.in_(user_ids))
    ordered = wanted.order_by(row.created_at, row.provider, row.provider_app_id, row.openid)
    for one in (await connection.execute(ordered)).mappings():
        found[one["user_id"]] = (*found.get(one["user_id"], ()), _named(one))
    return found


def _named(fields: Mapping[str, object] | RowMapping) -> Identity:
    unionid = fields["unionid"]
    return Identity(
        str(fields["provider"]),
        str(fields["openid"]),
        None if unionid is None else str(unionid),
        str(fields["provider_app_id"]),
    )


def _user(row: RowMapping, identities: tuple[Identity, ...]) -> User:
    return User(**row, identities=identities)
