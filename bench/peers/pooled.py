"""The broker with 1 000 codes in its state, which every login takes its own from.

`python -m bench.peers.pooled serve`.  They are offered before it serves: no row is in
the records and no picture anywhere, for a login asks neither.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from broker import app
from broker.__main__ import main
from broker.edge.wire import DEFAULT_APP
from broker.records import App
from broker.settings import Settings, load
from broker.state import Code, open_state

COUNT = 1_000

default_app = app._default_app


def pooled(settings: Settings) -> App:
    return replace(default_app(settings), code_source="pool")


async def offer(state_url: str) -> None:
    """Every server does; what is there already stays as it is."""
    store = open_state(state_url)
    await store.open()
    await store.leases.offer(DEFAULT_APP, [a_code(number) for number in range(COUNT)])
    await store.close()


def a_code(number: int) -> Code:
    return Code(number=number, drawing=0, scene=f"{number:032}", picture=f"{number:032}.jpg")


if __name__ == "__main__":
    asyncio.run(offer(load().state_url))
    app._default_app = pooled
    main()
