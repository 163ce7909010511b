"""Retires codes and deletes their pictures."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from broker.pool.filler import CONCURRENCY, gather_all
from broker.pool.model import CodeKey, CodeRecord
from broker.pool.ports import PictureStore

if TYPE_CHECKING:
    from broker.records.pool_codes import SqlCodeStore


WithdrawCodes = Callable[[str, Mapping[int, int]], Awaitable[None]]
"""Closes an app's codes for lease: by number, which drawing is done with."""


async def retire_codes(
    app: str,
    chosen: Sequence[CodeRecord | CodeKey],
    *,
    codes: SqlCodeStore,
    withdraw: WithdrawCodes | None = None,
) -> None:
    """Take codes of `app` out of service; their pictures are left over.

    The row first: what is lost on the way to the state can be said again, by the row.
    """
    await codes.retire(chosen)
    if withdraw is not None:
        await withdraw(app, {one.number: one.drawing for one in chosen})


async def delete_retired_pictures(
    app: str, *, codes: SqlCodeStore, pictures: PictureStore, before: float = math.inf
) -> None:
    """Remove the pictures of codes that have retired before then, Unix time in seconds.

    Raises PicturesUnavailable or RecordsUnavailable; the next call removes the rest.
    """
    while leftovers := await codes.retired_with_picture(app, before=before):
        for first in range(0, len(leftovers), CONCURRENCY):
            some = leftovers[first : first + CONCURRENCY]
            await gather_all(pictures.remove(code.picture) for code in some)
            await codes.forget_pictures(some)
