"""Builders for pool codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

from broker.identity.ports import CodePicture
from broker.pool.batches import CONCURRENCY
from broker.pool.filler import PoolFiller
from broker.pool.model import CodeRecord, CodeReservation
from broker.pool.ports import CodeReservations, PictureStore, ReadyCodes
from broker.pool.verifier import verify_codes
from broker.providers.pretend import PretendProvider

Fill = Callable[..., PoolFiller]

FAST = 1e6
"""Codes per minute: no limit in practice."""

PATIENT = (0.1,) * 300
"""Delays that are long enough for a server to start on a busy machine."""

IN_FLIGHT_MAX = 2 * CONCURRENCY
"""Draws without a code after a kill: one for each worker, and its repeat after a time limit."""

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


async def is_whole(codes: ReadyCodes, pictures: PictureStore, count: int) -> bool:
    """Return whether all numbers below `count` have a valid code."""
    numbers = [code.number for code in await ready_codes(codes)]
    defects = await verify_codes(codes=codes, pictures=pictures, app="shop")
    return numbers == list(range(count)) and defects == []
