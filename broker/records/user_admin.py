"""Administration of users, by command and by the admin API."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import RowMapping, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.identity.model import Identity
from broker.infrastructure.fields import check_fields
from broker.records import tables as t
from broker.records.database import Database
from broker.records.ended_subjects import record_ended_subject
from broker.records.user_identities import link_identity, lock_identities, parse_profile
from broker.records.user_lookup import hash_invitation
from broker.users.errors import IdentityNotFound, InvalidUser, UserAlreadyExists, UserNotFound
from broker.users.model import INVITATION_BYTES, Invitation, User, new_user_id
from broker.users.rules import (
    IDENTITY_RULES,
    INVITATION_LIFETIME,
    INVITATION_RULES,
    PAGE_SIZE,
    USER_ID_PATTERN,
    USER_RULES,
    VERIFIED_CLAIMS,
)


class SqlUserAdmin:
    """Lists and changes users and their identities.

    providers: names that an identity may have.
    clock: Unix time in seconds.
    Every method raises RecordsUnavailable; nothing has changed then.
    """

    def __init__(
        self, database: Database, *, providers: Sequence[str], clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._providers = providers
        self._clock = clock

    async def list(self, *, after: str = "", limit: int = PAGE_SIZE) -> list[User]:
        """Return at most `limit` users by id, from the first one after `after`."""
        page = select(t.users).where(t.users.c.id > after).order_by(t.users.c.id).limit(limit)
        async with self._database.read_connection() as connection:
            users = (await connection.execute(page)).mappings().all()
            identities = await _identities(connection, [user["id"] for user in users])
        return [_user(user, identities.get(user["id"], ())) for user in users]

    async def get(self, user_id: str) -> User:
        """Raises UserNotFound."""
        async with self._database.read_connection() as connection:
            return await _read(connection, user_id)

    async def add(self, fields: Mapping[str, object]) -> User:
        """Add a user, with a generated id if `fields` has none.

        Raises InvalidUser or UserAlreadyExists.
        """
        values = check_fields({"id": new_user_id(), **fields}, USER_RULES, InvalidUser)
        times = {"created_at": self._clock(), "changed_at": self._clock()}
        try:
            async with self._database.write_transaction() as connection:
                await connection.execute(insert(t.users).values({**values, **times}))
                return await _read(connection, str(values["id"]))
        except IntegrityError:
            raise UserAlreadyExists from None

    async def update(self, user_id: str, fields: Mapping[str, object]) -> User:
        """Change the given fields only, but no new address or number stays verified.

        Raises InvalidUser or UserNotFound.
        """
        if "id" in fields:
            raise InvalidUser(["id: the id of a user cannot be changed"])
        unverified = {flag: None for name, flag in VERIFIED_CLAIMS.items() if name in fields}
        values = {
            **check_fields({**unverified, **fields}, USER_RULES, InvalidUser),
            "changed_at": self._clock(),
        }
        async with self._database.write_transaction() as connection:
            await _read(connection, user_id)
            await connection.execute(update(t.users).filter_by(id=user_id).values(values))
            if values.get("blocked"):
                await record_ended_subject(connection, user_id, now=self._clock())
            return await _read(connection, user_id)

    async def remove(self, user_id: str) -> None:
        """Delete a user with all identities and invitations. Raises UserNotFound."""
        async with self._database.write_transaction() as connection:
            await _read(connection, user_id)
            await connection.execute(delete(t.users).filter_by(id=user_id))
            await record_ended_subject(connection, user_id, now=self._clock())

    async def link(self, user_id: str, fields: Mapping[str, object]) -> User:
        """Link an identity to the user. `unionid` is the only optional field.

        Raises InvalidUser, UserNotFound, or IdentityAlreadyLinked if another user has it.
        """
        identity = self._identity(fields)
        try:
            async with self._database.write_transaction() as connection:
                await lock_identities(connection)
                await _read(connection, user_id)
                await link_identity(connection, identity, user_id, self._clock())
                return await _read(connection, user_id)
        except IntegrityError:  # the user was deleted in the meantime
            raise UserNotFound from None

    async def unlink(self, user_id: str, fields: Mapping[str, object]) -> User:
        """Remove an identity and all invitations of the user.

        Raises InvalidUser, UserNotFound or IdentityNotFound.
        """
        identity = self._identity(fields)
        key = {"provider_app_id": identity.provider_app_id, "openid": identity.id}
        unlinked = delete(t.identities).filter_by(
            user_id=user_id, provider=identity.provider, **key
        )
        revoked = delete(t.invitations).filter_by(user_id=user_id)
        async with self._database.write_transaction() as connection:
            await lock_identities(connection)
            await _read(connection, user_id)
            if not (await connection.execute(unlinked)).rowcount:
                raise IdentityNotFound
            await connection.execute(revoked)
            return await _read(connection, user_id)

    async def invite(self, user_id: str, fields: Mapping[str, object]) -> Invitation:
        """Return a new invitation, which links one phone to the user within `expires_in`.

        The user's previous invitation is invalid from then on.
        Raises InvalidUser or UserNotFound.
        """
        values = check_fields(
            {"expires_in": INVITATION_LIFETIME, **fields}, INVITATION_RULES, InvalidUser
        )
        expires_in = values["expires_in"]
        assert isinstance(expires_in, int)  # checked by INVITATION_RULES
        invitation = Invitation(secrets.token_urlsafe(INVITATION_BYTES), expires_in)
        now, row = self._clock(), t.invitations.c
        columns = {
            "secret_hash": hash_invitation(invitation.secret),
            "user_id": user_id,
            "expires_at": now + invitation.expires_in,
        }
        invalid = delete(t.invitations).where(or_(row.user_id == user_id, row.expires_at <= now))
        try:
            async with self._database.write_transaction() as connection:
                await lock_identities(connection)
                await _read(connection, user_id)
                await connection.execute(invalid)
                await connection.execute(insert(t.invitations).values(columns))
        except IntegrityError:  # the user was deleted in the meantime
            raise UserNotFound from None
        return invitation

    def _identity(self, fields: Mapping[str, object]) -> Identity:
        missing = [name for name in IDENTITY_RULES if name not in fields and name != "unionid"]
        if missing:
            raise InvalidUser([f"{name}: an identity needs one" for name in missing])
        values = check_fields({"unionid": None, **fields}, IDENTITY_RULES, InvalidUser)
        if values["provider"] not in self._providers:
            raise InvalidUser([f"provider: use one of {', '.join(self._providers)}"])
        return _identity(values)


async def _read(connection: AsyncConnection, user_id: str) -> User:
    if not USER_ID_PATTERN.fullmatch(user_id):
        raise UserNotFound  # without a query, which a database may refuse for some characters
    rows = await connection.execute(select(t.users).filter_by(id=user_id))
    row = rows.mappings().one_or_none()
    if row is None:
        raise UserNotFound
    return _user(row, (await _identities(connection, [user_id])).get(user_id, ()))


async def _identities(
    connection: AsyncConnection, user_ids: Sequence[str]
) -> dict[str, tuple[Identity, ...]]:
    """Return the identities of each user, oldest first."""
    columns, identities = t.identities.c, dict[str, tuple[Identity, ...]]()
    selection = select(t.identities).where(columns.user_id.in_(user_ids))
    ordered = selection.order_by(
        columns.created_at, columns.provider, columns.provider_app_id, columns.openid
    )
    for row in (await connection.execute(ordered)).mappings():
        identities[row["user_id"]] = (*identities.get(row["user_id"], ()), _identity(row))
    return identities


def _identity(fields: Mapping[str, object] | RowMapping) -> Identity:
    unionid = fields["unionid"]
    return Identity(
        str(fields["provider"]),
        str(fields["openid"]),
        None if unionid is None else str(unionid),
        str(fields["provider_app_id"]),
    )


def _user(row: RowMapping, identities: tuple[Identity, ...]) -> User:
    return User(
        profile=parse_profile(row),
        blocked=row["blocked"],
        identities=identities,
        created_at=row["created_at"],
        changed_at=row["changed_at"],
    )
