"""Administration of apps over HTTP at the admin port, as by `scan-login app`.

No response contains a secret, except a new one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated

import structlog
from pydantic import Field

from broker.apps.errors import AppAlreadyExists, AppNotFound, InvalidApp
from broker.apps.model import AppResponse
from broker.apps.ports import AppAdmin
from broker.apps.rules import (
    FILES_LIFETIME_MAX,
    FILES_MAX_BYTES,
    LIFETIME_MAX,
    SECRET_MAX,
    WAFER_KEY_MAX,
    WAFER_KEY_MIN,
)
from broker.errors import InvalidRequest
from broker.infrastructure.api.authorization import OPERATOR
from broker.infrastructure.api.endpoint import ADMIN, Endpoint
from broker.infrastructure.api.schema import RequestFields, ResponseModel

log = structlog.get_logger()


class AppOptions(RequestFields, total=False):
    """Fields that an app need not have; `apps/rules.py` checks them."""

    provider: str
    provider_app_id: str
    provider_secret: Annotated[str, Field(max_length=SECRET_MAX)] | None
    wafer_key: Annotated[str, Field(min_length=WAFER_KEY_MIN, max_length=WAFER_KEY_MAX)] | None
    origins: list[str]
    redirect_urls: list[str]
    register_url: str | None
    code_source: str
    login_lifetime: Annotated[int, Field(ge=1, le=LIFETIME_MAX)] | None
    client_type: str
    home_url: str | None
    post_logout_urls: list[str]
    backchannel_logout_url: str | None
    scopes: list[str]
    id_token_alg: str
    id_token_claims: str
    pkce: str
    refresh: str
    reuse: str
    sso: bool
    loopback: bool
    phone_app: str
    match: str
    show_scanner: str
    logo_url: str | None
    open_url: str | None
    networks: list[str]
    events_url: str | None
    tunnel_url: str | None
    wafer_host: str
    rooms: str
    moderators: list[str]
    files_types: list[str]
    files_max: Annotated[int, Field(ge=1, le=FILES_MAX_BYTES)] | None
    files_lifetime: Annotated[int, Field(ge=1, le=FILES_LIFETIME_MAX)] | None
    files_url: str | None


class AppAddRequest(AppOptions):
    id: str
    name: str


class AppUpdateRequest(AppOptions, total=False):
    name: str


class AppListResponse(ResponseModel):
    apps: list[AppResponse]


class AppSecretResponse(ResponseModel):
    api_secret: str


class WebhookSecretResponse(ResponseModel):
    webhook_secret: str


class AppsAPI:
    """refresh: makes this instance read the apps again after a change."""

    def __init__(self, *, app_admin: AppAdmin, refresh: Callable[[], Awaitable[None]]) -> None:
        self._app_admin = app_admin
        self._refresh = refresh

    async def list(self) -> AppListResponse:
        return {"apps": [app.as_dict() for app in await self._app_admin.list()]}

    async def get(self, id: str) -> AppResponse:
        return (await self._app_admin.get(id)).as_dict()

    async def add(self, body: Mapping[str, object]) -> AppResponse:
        fields = {**body}
        app_id = fields.pop("id", "")
        if not isinstance(app_id, str):
            raise InvalidRequest("id: must be a string")
        app = await self._app_admin.add(app_id, fields)
        await self._changed(app_id, "added")
        return app.as_dict()

    async def update(self, body: Mapping[str, object], id: str) -> AppResponse:
        app = await self._app_admin.update(id, body)
        await self._changed(id, "changed")
        return app.as_dict()

    async def remove(self, id: str) -> None:
        await self._app_admin.remove(id)
        await self._changed(id, "removed")

    async def rotate_secret(self, id: str) -> AppSecretResponse:
        secret = await self._app_admin.rotate_secret(id)
        await self._changed(id, "secret rotated")
        return {"api_secret": secret}

    async def rotate_webhook_secret(self, id: str) -> WebhookSecretResponse:
        secret = await self._app_admin.rotate_webhook_secret(id)
        await self._changed(id, "webhook secret rotated")
        return {"webhook_secret": secret}

    async def _changed(self, app_id: str, change: str) -> None:
        log.info("app changed", app=app_id, change=change)
        await self._refresh()


APP_PATH = "/apps/{id:[A-Za-z0-9._-]+}"

ENDPOINTS = [
    Endpoint(
        "GET",
        "/apps",
        AppsAPI.list,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="listApps",
        summary="List all apps",
        response=AppListResponse,
    ),
    Endpoint(
        "POST",
        "/apps",
        AppsAPI.add,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="addApp",
        summary="Add an app",
        request=AppAddRequest,
        response=AppResponse,
        status=201,
        errors=(InvalidApp, AppAlreadyExists),
    ),
    Endpoint(
        "GET",
        APP_PATH,
        AppsAPI.get,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="getApp",
        summary="Get an app",
        response=AppResponse,
        errors=(AppNotFound,),
    ),
    Endpoint(
        "PATCH",
        APP_PATH,
        AppsAPI.update,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="updateApp",
        summary="Change an app",
        request=AppUpdateRequest,
        response=AppResponse,
        errors=(InvalidApp, AppNotFound),
    ),
    Endpoint(
        "DELETE",
        APP_PATH,
        AppsAPI.remove,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="deleteApp",
        summary="Delete an app",
        status=204,
        errors=(AppNotFound,),
    ),
    Endpoint(
        "POST",
        f"{APP_PATH}/rotate-secret",
        AppsAPI.rotate_secret,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="rotateAppSecret",
        summary="Replace the secret of the app's own servers",
        response=AppSecretResponse,
        errors=(AppNotFound,),
    ),
    Endpoint(
        "POST",
        f"{APP_PATH}/rotate-webhook-secret",
        AppsAPI.rotate_webhook_secret,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="rotateWebhookSecret",
        summary="Add a secret that signs requests to the app",
        response=WebhookSecretResponse,
        errors=(AppNotFound,),
    ),
]
