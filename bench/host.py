"""What a virtual machine's host leaves it of its processors."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

STOLEN = "CPU steal, %"


class Ticks(NamedTuple):
    """Of all processors since the start, by proc_stat(5).  stolen: when one was wanted and the
    host had given it to others."""

    total: int
    stolen: int

    @classmethod
    def now(cls) -> Ticks:
        _, *spent = Path("/proc/stat").read_text().splitlines()[0].split()
        each = [int(ticks) for ticks in spent[:8]]  # what follows is in these already
        return cls(sum(each), each[7])

    def stolen_since(self) -> float:
        """The part of the time since then that was stolen, in percent."""
        now = Ticks.now()
        return 100 * (now.stolen - self.stolen) / max(1, now.total - self.total)
