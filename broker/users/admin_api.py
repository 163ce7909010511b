"""Administration of users over HTTP at the admin port, as by `scan-login user`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NotRequired

import structlog
from pydantic import Field, StringConstraints

from broker.apps.model import DEFAULT_APP
from broker.infrastructure.api.authorization import OPERATOR
from broker.infrastructure.api.endpoint import ADMIN, QUERY, Endpoint
from broker.infrastructure.api.schema import (
    Count,
    LimitField,
    RequestFields,
    RequestModel,
    ResponseModel,
)
from broker.users.errors import (
    IdentityAlreadyLinked,
    IdentityNotFound,
    InvalidUser,
    UserAlreadyExists,
    UserNotFound,
)
from broker.users.invitation_codes import InvitationCodes
from broker.users.model import UserResponse
from broker.users.ports import IdentityAdmin, UserAdmin
from broker.users.rules import INVITATION_MAX

log = structlog.get_logger()


class UserListQuery(RequestModel):
    """Selects 1 to 999 users, from the first one after `after`."""

    after: Annotated[str, StringConstraints(pattern=r"^[ -~]*$", max_length=64)] = ""
    limit: LimitField = "100"


class UserUpdateRequest(RequestFields, total=False):
    """`users/rules.py` checks the values. null deletes a claim."""

    blocked: bool
    name: str | None
    nickname: str | None
    preferred_username: str | None
    picture: str | None
    locale: str | None
    zoneinfo: str | None
    email: str | None
    email_verified: bool | None
    phone_number: str | None
    phone_number_verified: bool | None
    groups: list[str] | None


class UserAddRequest(UserUpdateRequest, total=False):
    id: str


class IdentityRequest(RequestFields):
    provider: str
    provider_app_id: str
    openid: str
    unionid: NotRequired[str | None]


class InvitationRequest(RequestFields, total=False):
    """app: whose provider draws the code."""

    app: str
    expires_in: Annotated[int, Field(ge=1, le=INVITATION_MAX)]


class UserListResponse(ResponseModel):
    """next: the `after` of the next page, if there may be more users."""

    users: list[UserResponse]
    next: NotRequired[str]


class InvitationResponse(ResponseModel):
    """code_url: a code for the phone, as a `data:` URL; missing if it cannot be drawn now.

    link: the URL in the code, if it has one.
    """

    invitation: str
    expires_in: Count
    code_url: NotRequired[str]
    link: NotRequired[str]


class UsersAdminAPI:
    """codes: draws the codes of invitations."""

    def __init__(
        self, *, user_admin: UserAdmin, identity_admin: IdentityAdmin, codes: InvitationCodes
    ) -> None:
        self._user_admin = user_admin
        self._identity_admin = identity_admin
        self._codes = codes

    async def list(self, query: UserListQuery) -> UserListResponse:
        limit = int(query.limit)
        users = await self._user_admin.list(after=query.after, limit=limit)
        page: UserListResponse = {"users": [user.as_dict() for user in users]}
        return {**page, "next": users[-1].id} if len(users) == limit else page

    async def get(self, id: str) -> UserResponse:
        return (await self._user_admin.get(id)).as_dict()

    async def add(self, body: Mapping[str, object]) -> UserResponse:
        user = await self._user_admin.add(body)
        _log_change(user.id, "added")
        return user.as_dict()

    async def update(self, body: Mapping[str, object], id: str) -> UserResponse:
        user = await self._user_admin.update(id, body)
        _log_change(id, "changed")
        return user.as_dict()

    async def remove(self, id: str) -> None:
        await self._user_admin.remove(id)
        _log_change(id, "removed")

    async def link(self, body: Mapping[str, object], id: str) -> UserResponse:
        user = await self._identity_admin.link(id, body)
        _log_change(id, "linked")
        return user.as_dict()

    async def unlink(self, body: Mapping[str, object], id: str) -> UserResponse:
        user = await self._identity_admin.unlink(id, body)
        _log_change(id, "unlinked")
        return user.as_dict()

    async def invite(self, body: Mapping[str, object], id: str) -> InvitationResponse:
        fields = {**body}
        app = self._codes.require_app(fields.pop("app", DEFAULT_APP))
        invitation = await self._identity_admin.invite(id, fields)
        _log_change(id, "invited")
        answer: InvitationResponse = {
            "invitation": invitation.secret,
            "expires_in": invitation.expires_in,
        }
        code = await self._codes.draw(invitation, app)
        if code is not None:
            answer["code_url"] = code.picture.data_url()
            if code.link is not None:
                answer["link"] = code.link
        return answer


def _log_change(user_id: str, change: str) -> None:
    log.info("user changed", user=user_id, change=change)


USER_PATH = "/users/{id}"

ENDPOINTS = [
    Endpoint(
        "GET",
        "/users",
        UsersAdminAPI.list,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="listUsers",
        summary="List users by page",
        request=UserListQuery,
        request_in=QUERY,
        response=UserListResponse,
    ),
    Endpoint(
        "POST",
        "/users",
        UsersAdminAPI.add,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="addUser",
        summary="Add a user",
        request=UserAddRequest,
        response=UserResponse,
        status=201,
        errors=(InvalidUser, UserAlreadyExists),
    ),
    Endpoint(
        "GET",
        USER_PATH,
        UsersAdminAPI.get,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="getUser",
        summary="Get a user",
        response=UserResponse,
        errors=(UserNotFound,),
    ),
    Endpoint(
        "PATCH",
        USER_PATH,
        UsersAdminAPI.update,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="updateUser",
        summary="Change a user",
        request=UserUpdateRequest,
        response=UserResponse,
        errors=(InvalidUser, UserNotFound),
    ),
    Endpoint(
        "DELETE",
        USER_PATH,
        UsersAdminAPI.remove,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="deleteUser",
        summary="Delete a user",
        status=204,
        errors=(UserNotFound,),
    ),
    Endpoint(
        "POST",
        f"{USER_PATH}/link",
        UsersAdminAPI.link,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="linkIdentity",
        summary="Link an identity to a user",
        request=IdentityRequest,
        response=UserResponse,
        errors=(InvalidUser, UserNotFound, IdentityAlreadyLinked),
    ),
    Endpoint(
        "POST",
        f"{USER_PATH}/unlink",
        UsersAdminAPI.unlink,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="unlinkIdentity",
        summary="Remove an identity from a user",
        request=IdentityRequest,
        response=UserResponse,
        errors=(InvalidUser, UserNotFound, IdentityNotFound),
    ),
    Endpoint(
        "POST",
        f"{USER_PATH}/invite",
        UsersAdminAPI.invite,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="inviteUser",
        summary="Create an invitation, with which one phone registers as the user",
        request=InvitationRequest,
        response=InvitationResponse,
        status=201,
        errors=(InvalidUser, UserNotFound),
    ),
]
