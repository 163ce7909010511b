"""Settings of the administration."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from broker.infrastructure.fields import is_web_url
from broker.infrastructure.outbound.ssrf import is_loopback
from broker.infrastructure.settings import InvalidField, SettingsGroup, StringList


def check_admin_url(value: str) -> str:
    """Return the URL without a slash at the end."""
    url = urlsplit(value)
    if not is_web_url(value) or url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError("use a URL without a path, such as https://admin.example")
    if url.scheme != "https" and not is_loopback(url.hostname or ""):
        raise ValueError("use https, because operators send the admin token to it")
    return value.rstrip("/")


class AdminSettings(SettingsGroup):
    admin_url: Annotated[str, AfterValidator(check_admin_url)] | None = Field(
        None,
        description="URL at which operators open the admin page; requests with another name than "
        "this one, the address of the admin port or localhost get 403",
    )
    admin_subjects: StringList = Field(
        (),
        description="subjects of the users who may sign in to the admin page by scan, "
        "separated by commas; needs `SCAN_LOGIN_ADMIN_URL` and `SCAN_LOGIN_ADMIN_TOKEN`",
    )

    @model_validator(mode="after")
    def _check_subjects(self) -> AdminSettings:
        if self.admin_subjects and not self.admin_url:
            raise InvalidField(
                "admin_url", "missing; the sign-in by scan returns to the admin page at this URL"
            )
        return self
