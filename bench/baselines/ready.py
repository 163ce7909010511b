"""The broker with one picture for all its codes, as if a pool had drawn them before.

`python -m bench.baselines.ready serve`.  Drawing takes about as long as all the rest of a
login, and no peer draws.
"""

from __future__ import annotations

from bench.baselines import PICTURE
from broker.__main__ import main
from broker.providers import Picture
from broker.providers.pretend import PretendProvider


async def hand_out(self: PretendProvider, scene: str) -> Picture:
    return PICTURE


if __name__ == "__main__":
    PretendProvider.draw = hand_out  # type: ignore[method-assign]
    main()
