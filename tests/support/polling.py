"""HTTP long polling, request by request."""

from __future__ import annotations

import json

import aiohttp


def polling(sid: str) -> str:
    return f"/socket.io/?EIO=4&transport=polling&sid={sid}"


async def open_polling(http: aiohttp.ClientSession) -> str:
    """Open a polling session without a namespace, and return its sid."""
    async with http.get("/socket.io/?EIO=4&transport=polling") as response:
        sid: str = json.loads((await response.text())[1:])["sid"]
        return sid
