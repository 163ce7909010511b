"""Pools and their codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

from broker.identity.ports import CodePicture
from broker.providers.pretend import PretendProvider

FAST = 1e6
"""Codes a minute: as fast as they come."""

PUBLIC = "https://cdn.example/codes"


class Counting(PretendProvider):
    """Counts how often each scene is drawn.  meanwhile: is awaited before each drawing."""

    def __init__(self) -> None:
        super().__init__(phone_page_url="http://phone.example/")
        self.draws: Counter[str] = Counter()
        self.meanwhile: Callable[[str], Awaitable[None]] | None = None

    async def draw(self, scene: str) -> CodePicture:
        self.draws[scene] += 1
        if self.meanwhile:
            await self.meanwhile(scene)
        return await super().draw(scene)
