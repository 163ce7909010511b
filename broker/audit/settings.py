"""Settings of the audit log's export."""

from __future__ import annotations

from pydantic import Field, model_validator

from broker.infrastructure.outbound.settings import SIGNING_KEY_ADVICE, SigningSecrets
from broker.infrastructure.settings import InvalidField, SettingsGroup, WebURL


class AuditSettings(SettingsGroup):
    audit_url: WebURL | None = Field(
        None, description="https URL that receives the entries of the audit log"
    )
    audit_secret: SigningSecrets = Field(
        (),
        description="secret that signs requests to the audit URL, `whsec_…`; with several "
        "secrets, each one signs",
    )
    audit_chain: bool = Field(
        False,
        description="store a hash chain over the entries of the audit log; equal on every instance",
    )

    @model_validator(mode="after")
    def _check_secret(self) -> AuditSettings:
        if self.audit_url and not self.audit_secret:
            raise InvalidField("audit_secret", SIGNING_KEY_ADVICE)
        return self
