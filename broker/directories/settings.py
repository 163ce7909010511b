"""Settings of the directory and its webhook."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from broker.infrastructure.fields import is_web_url
from broker.infrastructure.outbound.settings import (
    SIGNING_KEY_ADVICE,
    SigningSecrets,
    webhook_url_problem,
)
from broker.infrastructure.settings import InvalidField, SettingsGroup
from broker.infrastructure.urls import split

LOCAL_DIRECTORIES = ("open", "sql")


def check_directory(value: str) -> str:
    split(value)  # names a wrong port
    if value not in LOCAL_DIRECTORIES and not is_web_url(value):
        raise ValueError("use open, sql, or the https URL of a webhook")
    return value


class DirectorySettings(SettingsGroup):
    directory: Annotated[str, AfterValidator(check_directory)] = Field(
        "open",
        description="maps identities to subjects: `open`, `sql`, or the https URL of a site's "
        "webhook",
    )
    directory_private: bool = Field(
        False, description="allow the site's webhook to have an address that is not public"
    )
    directory_secret: SigningSecrets = Field(
        (),
        description="secret that signs requests to the webhook, `whsec_…`; with several "
        "secrets, each one signs",
    )

    @model_validator(mode="after")
    def _check_webhook(self) -> DirectorySettings:
        url = split(self.directory)
        if not url.scheme:
            return self
        problem = webhook_url_problem(
            url, is_private_allowed=self.directory_private, setting="directory_private"
        )
        if problem:
            raise InvalidField("directory", problem)
        if not self.directory_secret:
            raise InvalidField("directory_secret", SIGNING_KEY_ADVICE)
        return self
