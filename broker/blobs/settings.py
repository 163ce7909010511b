"""Settings of the stores of pictures and files."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from broker.blobs import SCHEMES
from broker.infrastructure.fields import is_web_url
from broker.infrastructure.settings import InvalidField, SettingsGroup, list_schemes
from broker.infrastructure.settings_sources import PREFIX
from broker.infrastructure.urls import split


def check_store_url(url: str) -> str:
    parts = split(url)
    if "@" in parts.netloc:
        raise ValueError(
            "must not contain user or password: use variables such as AWS_ACCESS_KEY_ID"
        )
    has_place = parts.path.startswith("/") if parts.scheme == "file" else parts.netloc
    if url and (parts.scheme not in SCHEMES or not has_place):
        raise ValueError(
            "use a URL such as file:///var/lib/scan-login/pictures or s3://bucket/folder, "
            f"which begins with one of {list_schemes(SCHEMES)}"
        )
    return url


def check_public_prefix(value: str) -> str:
    url = value.rstrip("/")
    if value and (not is_web_url(url) or urlsplit(url).query):
        raise ValueError("use an http or https URL such as https://cdn.example/codes")
    return url


def check_endpoint(value: str) -> str:
    if value and not is_web_url(value):
        raise ValueError("use an http or https URL such as https://s3.example")
    return value


class BlobSettings(SettingsGroup):
    pictures_url: Annotated[str, AfterValidator(check_store_url)] = Field(
        "",
        description="storage of the codes' pictures; default: the folder `scan-login-pictures` "
        "next to the SQLite file, if there is one",
    )
    pictures_public_url: Annotated[str, AfterValidator(check_public_prefix)] = Field(
        "",
        description="URL prefix of pictures for browsers, such as a CDN's address; default: "
        "`<public URL>/codes`",
    )
    pictures_endpoint: Annotated[str, AfterValidator(check_endpoint)] = Field(
        "", description="URL of an S3-compatible store that is not Amazon's"
    )

    files_url: Annotated[str, AfterValidator(check_store_url)] = Field(
        "", description="storage of the files of mini programs; without it there are no files"
    )
    files_public_url: Annotated[str, AfterValidator(check_public_prefix)] = Field(
        "",
        description="URL prefix of files for clients, on a dedicated host name; default: "
        "`<public URL>/files`",
    )
    files_endpoint: Annotated[str, AfterValidator(check_endpoint)] = Field(
        "", description="URL of an S3-compatible store of files that is not Amazon's"
    )

    @model_validator(mode="after")
    def _check_endpoint(self) -> BlobSettings:
        for store in ("pictures", "files"):
            if (
                getattr(self, f"{store}_endpoint")
                and urlsplit(getattr(self, f"{store}_url")).scheme != "s3"
            ):
                raise InvalidField(
                    f"{store}_endpoint", f"an endpoint requires {PREFIX}{store.upper()}_URL=s3://…"
                )
        return self
