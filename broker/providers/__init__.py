"""Draw codes and prove who holds the phone: two verbs."""

from __future__ import annotations

import base64
from typing import NamedTuple, Protocol

from broker.login import Identity


class Picture(NamedTuple):
    """An image that an `<img>` can show, and its media type."""

    content: bytes
    media_type: str

    def data_url(self) -> str:
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode()}"


class Provider(Protocol):
    name: str
    """The token's `idp`."""

    scene_max: int
    """Characters that a scene may have."""

    async def draw(self, scene: str) -> Picture:
        """The code that carries `scene`.  Raises Unavailable when it cannot be drawn now."""

    async def identify(self, js_code: str) -> Identity:
        """Who holds the phone that sent `js_code`.

        Raises InvalidSession when the proof is worth nothing, Unavailable when
        that cannot be told now.
        """


NAMES = ("pretend",)
"""What the setting `provider` may say; `broker/app.py` knows how each is made."""
