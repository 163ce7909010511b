"""Returns freed memory to the operating system after load.

glibc keeps freed blocks larger than 512 bytes, such as buffers and tables, for later use. Python
itself keeps smaller ones, in arenas of 1 MB that it releases only when they are empty.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

TRIM_INTERVAL = 5.0
"""Seconds between two checks. A check takes 0.1 ms, and a trim of 20 MB 3 ms."""

MAX_SHARE = 0.001
"""Largest share of the time that checks take. With `PYTHONMALLOC=malloc` one may take 50 ms."""

TRIM_MIN_BYTES = 4 * 1024 * 1024
"""Free bytes above the least number since the last trim that are worth the next one."""


class MemoryTrim:
    """Trims the heap when much has been freed.

    free_bytes: returns the free bytes of the heap, also those trimmed.
    trim: returns free pages to the system.
    """

    def __init__(self, free_bytes: Callable[[], int], trim: Callable[[], object]) -> None:
        self._free_bytes = free_bytes
        self._trim = trim
        self._least = free_bytes()

    async def run(self) -> None:
        delay = TRIM_INTERVAL
        while True:
            await asyncio.sleep(delay)
            began = time.perf_counter()
            self.check()
            delay = max(TRIM_INTERVAL, (time.perf_counter() - began) / MAX_SHARE)

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
        import ctypes  # missing in a Python without libffi

        library = ctypes.CDLL(None)
        read, trim = library.mallinfo2, library.malloc_trim
    except (ImportError, OSError, AttributeError, TypeError):
        return None

    class MallocInfo(ctypes.Structure):
        """`struct mallinfo2` of malloc(3)."""

        _fields_ = tuple(
            (name, ctypes.c_size_t)
            for name in (
                *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
                *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
            )
        )

    read.restype = MallocInfo
    return MemoryTrim(lambda: int(read().fordblks), lambda: trim(ctypes.c_size_t(0)))
