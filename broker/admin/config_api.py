"""The settings and their sources, over HTTP at the admin port. Secrets are masked."""

from __future__ import annotations

from typing import Any, NotRequired

from broker.infrastructure.api.authorization import OPERATOR
from broker.infrastructure.api.endpoint import ADMIN, Endpoint
from broker.infrastructure.api.schema import ResponseModel
from broker.infrastructure.settings import Settings, describe_value
from broker.infrastructure.settings_sources import DEFAULT


class SettingView(ResponseModel):
    """source: `default`, `environment`, `file` or `option`, an option of the command.

    source_name: of the variable or the file.
    """

    name: str
    value: Any
    source: str
    source_name: NotRequired[str]


class ConfigResponse(ResponseModel):
    """The settings of the answering instance."""

    settings: list[SettingView]


class ConfigAPI:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def list(self) -> ConfigResponse:
        values = sorted(self._settings.values().items())
        return {"settings": [self._view(name, value) for name, value in values]}

    def _view(self, name: str, value: object) -> SettingView:
        source = self._settings.sources.get(name, DEFAULT)
        view: SettingView = {
            "name": name,
            "value": describe_value(value),
            "source": source.kind,
        }
        return {**view, "source_name": source.name} if source.name else view


ENDPOINTS = [
    Endpoint(
        "GET",
        "/config",
        ConfigAPI.list,
        role=ADMIN,
        auth=OPERATOR,
        operation_id="listSettings",
        summary="List the settings and their sources",
        response=ConfigResponse,
    ),
]
