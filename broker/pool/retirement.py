"""Retires codes and deletes their pictures."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence

from broker.pool.batches import batches, gather_all
from broker.pool.model import CodeKey, CodeRecord
from broker.pool.ports import PictureStore, ReadyCodes, RetiredPictures

WithdrawCodes = Callable[[str, Mapping[int, int]], Awaitable[None]]
"""Removes an app's numbers from its pool; maps each number to the retired drawing."""


async def retire_codes(
    app: str,
    chosen: Sequence[CodeRecord | CodeKey],
    *,
    codes: ReadyCodes,
    withdraw: WithdrawCodes | None = None,
) -> None:
    """Retire codes of `app`; their pictures remain.

    The records are changed first. If the state misses the change, it is repeated from them.
    """
    await codes.retire(chosen)
    if withdraw is not None:
        await withdraw(app, {code.number: code.drawing for code in chosen})


async def delete_retired_pictures(
    app: str, *, codes: RetiredPictures, pictures: PictureStore, before: float = math.inf
) -> None:
    """Delete the pictures of codes that were retired before then, Unix time in seconds.

    Raises Unavailable; the next call deletes the rest.
    """
    while retired := await codes.retired_with_picture(app, before=before):
        for batch in batches(retired):
            await gather_all(pictures.remove(code.picture) for code in batch)
            await codes.forget_pictures(batch)
