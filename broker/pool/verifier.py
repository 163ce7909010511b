"""Verifies the pictures of ready codes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from broker.identity.ports import CodePicture
from broker.pool.batches import batches, gather_all
from broker.pool.images import validation_error
from broker.pool.model import CodeRecord
from broker.pool.pictures import media_type_of
from broker.pool.ports import PictureStore, ReadyCodes

DrawPicture = Callable[[str], Awaitable[CodePicture]]
"""Draws the code of a scene. Two calls with one scene return the same picture."""


class CodeDefect(NamedTuple):
    """The reason why a code cannot be used."""

    number: int
    reason: str


async def verify_codes(
    *, codes: ReadyCodes, pictures: PictureStore, app: str, draw: DrawPicture | None = None
) -> list[CodeDefect]:
    """Return the defects of an app's ready codes.

    draw: with it, each picture is compared with a new drawing. Without it, the scene in the
        picture is not checked: only WeChat can read the scene of a mini program code.
    """
    defects: list[CodeDefect] = []
    async for ready in codes.ready(app):
        for batch in batches(ready):
            reasons = await gather_all(_defect(code, pictures, draw) for code in batch)
            defects += [
                CodeDefect(code.number, reason)
                for code, reason in zip(batch, reasons, strict=True)
                if reason
            ]
    return defects


async def _defect(code: CodeRecord, pictures: PictureStore, draw: DrawPicture | None) -> str | None:
    content = await pictures.get(code.picture)
    if content is None:
        return "picture not found"
    error = validation_error(content, media_type_of(code.picture))
    if error is None and draw is not None and (await draw(code.scene)).content != content:
        return "picture differs from a new drawing of its scene"
    return error
