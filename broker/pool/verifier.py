"""Verifies the pictures of ready codes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from broker.identity.ports import CodePicture
from broker.pool.filler import CONCURRENCY, gather_all
from broker.pool.images import validation_error
from broker.pool.model import CodeRecord
from broker.pool.pictures import media_type_of
from broker.pool.ports import PictureStore

if TYPE_CHECKING:
    from broker.records.pool_codes import SqlCodeStore


class CodeDefect(NamedTuple):
    """What is wrong with a code."""

    number: int
    reason: str


async def verify_codes(
    *,
    codes: SqlCodeStore,
    pictures: PictureStore,
    app: str,
    draw: Callable[[str], Awaitable[CodePicture]] | None = None,
) -> list[CodeDefect]:
    """Every ready code that cannot be shown as it is, and why.

    draw: draws the very same picture of the same scene again; only with it is it known
    what a code carries, for WeChat's round ones are read by WeChat alone.
    """
    flaws: list[CodeDefect] = []
    async for batch in codes.ready(app):
        for first in range(0, len(batch), CONCURRENCY):
            some = batch[first : first + CONCURRENCY]
            found = await gather_all(_flaw(code, pictures, draw) for code in some)
            flaws += [
                CodeDefect(code.number, said)
                for code, said in zip(some, found, strict=True)
                if said
            ]
    return flaws


async def _flaw(
    code: CodeRecord, pictures: PictureStore, draw: Callable[[str], Awaitable[CodePicture]] | None
) -> str | None:
    content = await pictures.get(code.picture)
    if content is None:
        return "its picture is not there"
    said = validation_error(content, media_type_of(code.picture))
    if said is None and draw is not None and (await draw(code.scene)).content != content:
        return "its picture is another than would be drawn for its scene now"
    return said
