"""Settings of the app `default`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from broker.apps.rules import CHOICES, CODE_SOURCES, check_open_url
from broker.infrastructure.fields import parse_origin
from broker.infrastructure.outbound.settings import SIGNING_KEY_ADVICE, SigningSecrets
from broker.infrastructure.settings import (
    InvalidField,
    SettingsGroup,
    StringList,
    WebURL,
    one_of,
)


def parse_origins(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(parse_origin(text) for text in value)


class AppSettings(SettingsGroup):
    app_name: str = Field(
        "Example site", min_length=1, description="name of the app `default` on the phone"
    )
    register_url: WebURL | None = Field(
        None, description="page to which the app `default` sends unregistered people"
    )
    logo_url: WebURL | None = Field(
        None, description="logo of the app `default`, which the browser shows"
    )
    open_url: Annotated[str | None, AfterValidator(check_open_url)] = Field(
        None,
        description="URL that opens the phone app of the app `default` at a login, with "
        "`{scene}`; default: the link in the code, if the provider has one",
    )
    show_scanner: Annotated[str, one_of(CHOICES["show_scanner"])] = Field(
        "off",
        description="details of the person who scanned that the browser shows for the app "
        "`default`: `off`, `name`, which is masked, or `picture`, which adds the picture",
    )
    origins: Annotated[StringList, AfterValidator(parse_origins)] = Field(
        (),
        description="exact Origins of the pages that may connect, separated by commas, such as "
        "`https://shop.example,https://www.shop.example`; default: the Origin of the public URL",
    )
    code_source: Annotated[str, one_of(CODE_SOURCES)] = Field(
        "live",
        description="source of codes for the app `default`: `live`, drawn for each login, or "
        "`pool`, drawn in advance",
    )
    events_url: WebURL | None = Field(
        None, description="URL that receives webhook events of the app `default`"
    )
    tunnel_url: WebURL | None = Field(
        None, description="URL that receives the callbacks of tunnels of the app `default`"
    )
    webhook_secret: SigningSecrets = Field(
        (),
        description="secret that signs the events and callbacks of the app `default`, `whsec_…`; "
        "with several secrets, each one signs",
    )

    @model_validator(mode="after")
    def _check_events(self) -> AppSettings:
        if (self.events_url or self.tunnel_url) and not self.webhook_secret:
            raise InvalidField("webhook_secret", SIGNING_KEY_ADVICE)
        return self
