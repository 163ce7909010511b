"""Builders for pool codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

from broker.identity.ports import CodePicture
from broker.pool.model import CodeRecord, CodeReservation
from broker.pool.ports import CodeReservations, ReadyCodes
from broker.providers.pretend import PretendProvider

FAST = 1e6
"""Codes per minute: no limit in practice."""

RESERVATION = 60.0
"""Seconds of a reservation."""

PUBLIC = "https://cdn.example/codes"


class CountingProvider(PretendProvider):
    """Counts how often each scene is drawn.  before_draw: awaited before each drawing."""

    def __init__(self) -> None:
        super().__init__(phone_page_url="http://phone.example/")
        self.draws: Counter[str] = Counter()
        self.before_draw: Callable[[str], Awaitable[None]] | None = None

    async def draw(self, scene: str) -> CodePicture:
        self.draws[scene] += 1
        if self.before_draw:
            await self.before_draw(scene)
        return await super().draw(scene)


async def reserve(codes: CodeReservations, number: int, app: str = "shop") -> CodeReservation:
    reservation = await codes.reserve(app, number, seconds=RESERVATION)
    assert reservation is not None
    return reservation


async def draw(codes: CodeReservations, number: int, app: str = "shop") -> CodeRecord:
    """Make the code of a number ready."""
    reservation = await reserve(codes, number, app)
    code = await codes.finish(reservation, f"picture-{number}.png")
    assert code is not None
    return code


async def ready_codes(codes: ReadyCodes, app: str = "shop") -> list[CodeRecord]:
    return [code async for batch in codes.ready(app) for code in batch]
