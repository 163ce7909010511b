"""Settings of the provider `wechat`."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from broker.apps.rules import PROVIDER_APP_ID_PATTERNS
from broker.identity.model import ProviderAccount
from broker.infrastructure.outbound.ssrf import is_loopback
from broker.infrastructure.settings import WebURL, one_of
from broker.providers.settings import AccountSettings

APPID_PATTERN = PROVIDER_APP_ID_PATTERNS["wechat"]


def check_api_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.query:
        raise ValueError("use an http or https URL without query")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("use https: with http, anyone on the network can read the AppSecret")
    return value


class WeChatSettings(AccountSettings):
    wechat_appid: str | None = Field(
        None, pattern=APPID_PATTERN, description="AppID of the mini program"
    )
    wechat_secret: SecretStr | None = Field(
        None, description="AppSecret of the mini program; never shown"
    )
    wechat_api_url: Annotated[WebURL, AfterValidator(check_api_url)] = Field(
        "https://api.weixin.qq.com", description="URL of WeChat's server API"
    )
    wechat_page: str = Field(
        "pages/index/wsLogin",
        pattern=r"^[\w-]+(/[\w-]+)*$",
        description="page of the mini program that codes open, without a leading slash",
    )
    wechat_env_version: Annotated[str, one_of(("release", "trial", "develop"))] = Field(
        "release", description="version of the mini program that codes open"
    )
    wechat_check_path: bool = Field(
        True, description="let WeChat reject a page that the released version does not have"
    )
    wechat_width: int = Field(430, ge=280, le=1280, description="width of a code, in pixels")
    wechat_codes_per_minute: int = Field(
        4500,
        gt=0,
        le=4500,
        description="codes that this process may draw per minute; WeChat allows 5 000 for all "
        "processes together",
    )

    def account(self) -> ProviderAccount | None:
        if self.wechat_appid is None or self.wechat_secret is None:
            return None
        return ProviderAccount("wechat", self.wechat_appid, self.wechat_secret.get_secret_value())
