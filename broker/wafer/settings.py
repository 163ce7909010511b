"""Settings of Wafer's API."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, model_validator

from broker.apps.rules import check_wafer_host, check_wafer_key
from broker.infrastructure.api.settings import check_networks
from broker.infrastructure.settings import InvalidField, Seconds, SettingsGroup, StringList

PRIVATE_NETWORKS = (
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fc00::/7",
)
"""Loopback, and the private networks of RFC 1918 and RFC 4193."""


def _check_key(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        check_wafer_key(value.get_secret_value())
    return value


class WaferSettings(SettingsGroup):
    wafer_host: Annotated[str, AfterValidator(check_wafer_host)] = Field(
        "", description="`ServerHost` of the Wafer server SDK of the app `default`"
    )
    wafer_key: Annotated[SecretStr | None, AfterValidator(_check_key)] = Field(
        None,
        description="`TunnelSignatureKey` of the Wafer server SDK of the app `default`, 16 to 128 "
        "characters",
    )
    wafer_networks: Annotated[StringList, AfterValidator(check_networks)] = Field(
        (),
        description="networks of the business servers that may call `/mina_auth/`, which has no "
        "authentication, separated by commas; default: loopback and private networks",
    )
    wafer_callbacks_private: bool = Field(
        False,
        description="allow a `receiveUrl` of Wafer to use http, and to have an address that is not "
        "public",
    )
    wafer_heartbeat_interval: Seconds = Field(
        15, description="seconds between two pings of a client with a Wafer SDK"
    )

    @model_validator(mode="after")
    def _check_pair(self) -> WaferSettings:
        if bool(self.wafer_host) is not bool(self.wafer_key):
            missing = "wafer_key" if self.wafer_host else "wafer_host"
            raise InvalidField(missing, "missing; Wafer's tunnels need a host and a key")
        return self
