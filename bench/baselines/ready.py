"""The broker with one image for all codes, as if the codes were drawn in advance.

`python -m bench.baselines.ready serve`. Drawing a code takes about as long as the rest of
a login, and the other baselines do not draw.
"""

from __future__ import annotations

from bench.baselines import PICTURE
from broker.cli.main import main
from broker.identity.ports import CodePicture
from broker.providers.pretend import PretendProvider


async def return_picture(self: PretendProvider, scene: str) -> CodePicture:
    return PICTURE


if __name__ == "__main__":
    PretendProvider.draw = return_picture  # type: ignore[method-assign]
    main()
