"""Returns freed memory to the operating system after load.

glibc keeps freed blocks larger than 512 bytes, such as buffers and tables, for later use. Python
itself keeps smaller ones, in arenas of 1 MB that it releases only when they are empty.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable

TRIM_INTERVAL = 5.0
"""Seconds between two checks. A check takes 0.1 ms, and a trim of 20 MB 3 ms."""

TRIM_MIN_BYTES = 4 * 1024 * 1024
"""Freed bytes since the last trim that are worth the next one."""


class MallocInfo(ctypes.Structure):
    """`struct mallinfo2` of malloc(3). fordblks: free bytes of the heap, also those trimmed."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


class MemoryTrim:
    """Trims the heap when much has been freed.

    free_bytes: returns the free bytes of the heap.  trim: returns free pages to the system.
    """

    def __init__(self, free_bytes: Callable[[], int], trim: Callable[[], object]) -> None:
        self._free_bytes = free_bytes
        self._trim = trim
        self._least = free_bytes()  # since the last trim

    async def run(self) -> None:
        while True:
            await asyncio.sleep(TRIM_INTERVAL)
            self.check()

    def check(self) -> None:
        free = self._free_bytes()
        if free >= self._least + TRIM_MIN_BYTES:
            self._trim()
            self._least = self._free_bytes()
        else:
            self._least = min(self._least, free)


def memory_trim() -> MemoryTrim | None:
    """Return the trim of this process; None without glibc 2.33 or later."""
    try:
        library = ctypes.CDLL(None)
        read, trim = library.mallinfo2, library.malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    read.restype = MallocInfo
    return MemoryTrim(lambda: int(read().fordblks), lambda: trim(ctypes.c_size_t(0)))
