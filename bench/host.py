"""CPU steal: time in which the host of a virtual machine gave its CPU to others."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

STEAL = "CPU steal, %"


class Ticks(NamedTuple):
    """Ticks of all CPUs since the boot, from proc_stat(5). steal: ticks of CPU steal."""

    total: int
    steal: int

    @classmethod
    def now(cls) -> Ticks:
        _, *spent = Path("/proc/stat").read_text().splitlines()[0].split()
        each = [int(ticks) for ticks in spent[:8]]  # the other fields are included in these
        return cls(sum(each), each[7])

    def steal_percent(self) -> float:
        """CPU steal since these ticks, in percent."""
        now = Ticks.now()
        return 100 * (now.steal - self.steal) / max(1, now.total - self.total)
