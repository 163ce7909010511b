"""Freed memory is returned to the system."""

from __future__ import annotations

import ctypes
import os

import pytest

from broker.infrastructure.runtime.memory import TRIM_MIN_BYTES, MemoryTrim, memory_trim
from tests.support.environment import miss


class Heap:
    """free: bytes.  trims: how often the heap was trimmed."""

    def __init__(self) -> None:
        self.free = 1_000
        self.trims = 0
        self.trim = MemoryTrim(lambda: self.free, self._count)

    def _count(self) -> None:
        self.trims += 1

    def check_after(self, free: int) -> int:
        self.free = free
        self.trim.check()
        return self.trims


def test_heap_is_trimmed_once_after_load() -> None:
    heap = Heap()

    assert heap.check_after(TRIM_MIN_BYTES) == 0
    assert heap.check_after(TRIM_MIN_BYTES + 1_000) == 1
    assert heap.check_after(TRIM_MIN_BYTES + 1_000) == 1


def test_heap_is_trimmed_again_after_the_next_load() -> None:
    heap = Heap()
    heap.check_after(5 * TRIM_MIN_BYTES)

    assert heap.check_after(2 * TRIM_MIN_BYTES) == 1
    assert heap.check_after(3 * TRIM_MIN_BYTES) == 2


def test_freed_memory_leaves_the_process() -> None:
    trim = memory_trim()
    if trim is None:
        miss("glibc 2.33 or later is needed")
    blocks = [ctypes.create_string_buffer(b"x" * 4_000) for _ in range(20_000)]
    kept = blocks[::100]
    used = resident_bytes()

    del blocks
    trim.check()

    assert resident_bytes() < used - 40_000_000
    assert len(kept) == 200


def test_other_systems_have_no_trim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())

    assert memory_trim() is None


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
