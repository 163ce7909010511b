"""Settings of the login policy."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from broker.infrastructure.fields import is_web_url
from broker.infrastructure.outbound.settings import SIGNING_KEY_ADVICE, SigningSecrets
from broker.infrastructure.settings import InvalidField, SettingsGroup
from broker.infrastructure.urls import split

LOCAL_POLICIES = ("off", "built-in")


def check_policy(value: str) -> str:
    split(value)  # names a wrong port
    if value not in LOCAL_POLICIES and not is_web_url(value):
        raise ValueError("use off, built-in, or the https URL of a webhook")
    return value


class PolicySettings(SettingsGroup):
    policy: Annotated[str, AfterValidator(check_policy)] = Field(
        "off",
        description="judges each scan: `off`, `built-in`, or the https URL of a webhook; phones "
        "that cannot show a match are refused when they are challenged",
    )
    policy_secret: SigningSecrets = Field(
        (),
        description="secret that signs requests to the policy's webhook, `whsec_…`; with several "
        "secrets, each one signs",
    )
    geo_file: str | None = Field(
        None,
        description="MMDB file with the countries of addresses, for the login policy; requires "
        "the extra `scan-login[geo]`",
    )

    @model_validator(mode="after")
    def _check_secret(self) -> PolicySettings:
        if self.policy not in LOCAL_POLICIES and not self.policy_secret:
            raise InvalidField("policy_secret", SIGNING_KEY_ADVICE)
        return self
