"""A provider for trying things out: draws an ordinary QR code and believes everybody.

The code carries `<phone page URL>?scene=<scene>`; `pretend:<openid>` proves that
the phone is <openid>'s.  Whoever can reach a broker with this provider can log
in as anybody, so the settings keep it to loopback unless told otherwise.
"""

from __future__ import annotations

import io
import re

import segno

from broker.identity.errors import InvalidProof
from broker.identity.model import Identity
from broker.identity.ports import CodePicture, IdentityProof, UserDataVerifier

JS_CODE_PATTERN = re.compile(r"pretend:([^\s\x00-\x1f\x7f]{1,64})")
"""An openid is anything that can be printed without a space, in any script."""


class PretendProvider:
    name = "pretend"
    scene_max = 32
    user_data: UserDataVerifier | None = None

    def __init__(self, *, phone_page_url: str) -> None:
        self._phone_page_url = phone_page_url

    def link(self, scene: str) -> str:
        """What the code of `scene` carries."""
        more = "&" if "?" in self._phone_page_url else "?"
        return f"{self._phone_page_url}{more}scene={scene}"

    async def open(self) -> None:
        """Nothing: it talks to nobody."""

    async def close(self) -> None:
        """Nothing."""

    async def draw(self, scene: str) -> CodePicture:
        svg = io.BytesIO()
        _code(self.link(scene)).save(svg, kind="svg", scale=8, xmldecl=False, light="white")
        return CodePicture(svg.getvalue(), "image/svg+xml")

    async def identify(self, js_code: str) -> IdentityProof:
        proof = JS_CODE_PATTERN.fullmatch(js_code)
        if proof is None:
            raise InvalidProof("the pretend provider wants a js_code of the form pretend:<openid>")
        return IdentityProof(Identity(self.name, proof[1]))


def _code(link: str) -> segno.QRCode:
    # A fixed mask: trying all eight takes two thirds of the drawing's 7 ms.
    return segno.make_qr(link, error="m", boost_error=False, mask=3)


def terminal_code(link: str) -> str:
    """A code for a terminal, two rows of it to a line."""
    text = io.StringIO()
    _code(link).terminal(text, compact=True)
    return text.getvalue()
