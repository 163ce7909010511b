"""A provider for demos and tests: it draws a QR code and accepts every identity.

The code contains `<phone page URL>?scene=<scene>`. The js_code `pretend:<openid>` proves that
the phone belongs to <openid>, and the code `pretend:+<digits>` proves a phone number. With this
provider, any client of the broker can log in as any user, so the settings allow it on loopback
only, unless `SCAN_LOGIN_ALLOW_PRETEND` is set.
"""

from __future__ import annotations

import io
import re

import segno

from broker.identity.errors import (
    MISCONFIGURED_RETRY_AFTER,
    InvalidPhoneNumberCode,
    InvalidProof,
    ProviderUnavailable,
)
from broker.identity.model import Identity, ProviderAccount
from broker.identity.ports import CodePicture, IdentityProof, UserDataVerifier
from broker.infrastructure.settings import Settings
from broker.infrastructure.settings_sources import PREFIX
from broker.providers.settings import ProviderSettings, is_pretend_allowed

JS_CODE_PATTERN = re.compile(r"pretend:([^\s\x00-\x1f\x7f]{1,64})")
"""An openid has up to 64 characters of any script, without spaces and control characters."""


PHONE_NUMBER_CODE_PATTERN = re.compile(r"pretend:(\+[1-9][0-9]{3,14})")


class PretendProvider:
    name = "pretend"
    scene_max = 32
    user_data: UserDataVerifier | None = None

    def __init__(self, *, phone_page_url: str) -> None:
        self._phone_page_url = phone_page_url

    def link(self, scene: str) -> str:
        """Return the URL in the code of `scene`."""
        separator = "&" if "?" in self._phone_page_url else "?"
        return f"{self._phone_page_url}{separator}scene={scene}"

    async def open(self) -> None:
        """Do nothing: there is no connection."""

    async def close(self) -> None:
        """Do nothing."""

    async def draw(self, scene: str) -> CodePicture:
        svg = io.BytesIO()
        _code(self.link(scene)).save(svg, kind="svg", scale=8, xmldecl=False, light="white")
        return CodePicture(svg.getvalue(), "image/svg+xml")

    async def identify(self, js_code: str) -> IdentityProof:
        proof = JS_CODE_PATTERN.fullmatch(js_code)
        if proof is None:
            raise InvalidProof(
                "the js_code is invalid; the pretend provider accepts pretend:<openid>"
            )
        return IdentityProof(Identity(self.name, proof[1]))

    async def phone_number(self, code: str, identity: Identity) -> str:
        proof = PHONE_NUMBER_CODE_PATTERN.fullmatch(code)
        if proof is None:
            raise InvalidPhoneNumberCode(
                "the code is invalid; the pretend provider accepts pretend:+<phone number>"
            )
        return proof[1]


def _code(link: str) -> segno.QRCode:
    # A fixed mask. To try all eight takes two thirds of the 7 ms for a code.
    return segno.make_qr(link, error="m", boost_error=False, mask=3)


def terminal_code(link: str) -> str:
    """Return a code to print on a terminal. A line shows two rows of the code."""
    text = io.StringIO()
    _code(link).terminal(text, compact=True)
    return text.getvalue()


def open_provider(settings: Settings, account: ProviderAccount) -> PretendProvider:
    """Raises ProviderUnavailable if the settings do not allow the pretend provider."""
    if not is_pretend_allowed(settings):
        raise ProviderUnavailable(
            "with the provider pretend anyone can log in as anyone, and other machines can reach "
            "this broker: give the app the provider wechat, or set "
            f"{PREFIX}ALLOW_PRETEND=true for a trial in a network that you trust",
            MISCONFIGURED_RETRY_AFTER,
        )
    return PretendProvider(phone_page_url=settings[ProviderSettings].phone_page_url)
