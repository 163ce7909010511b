"""Runs work on many codes in small concurrent batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

CONCURRENCY = 8
"""Codes that are drawn, verified or deleted at the same time."""


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield `items` in batches of `CONCURRENCY`."""
    for first in range(0, len(items), CONCURRENCY):
        yield items[first : first + CONCURRENCY]


async def gather_all(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Return the results of all calls. Raises the first error after all calls have ended."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
