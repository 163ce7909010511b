"""A pretend WeChat that takes 200 ms for a code, and has one picture for all of them.

`python -m bench.baselines.wechat PORT`.  WeChat's own time is the network's and its machines';
drawing here would take this machine's, from those that are measured.
"""

from __future__ import annotations

import asyncio
import sys

from broker.serving import Site, serve_until_stopped
from mp_stub.wechat import faults, server
from mp_stub.wechat.codes import draw_code
from mp_stub.wechat.platform import APPID, SECRET, Code, MiniProgram, Platform

TAKES = 0.2
"""Seconds: what `getwxacodeunlimit` takes on a good day."""


def main(port: int) -> None:
    drawn = draw_code(Code(APPID, "pages/index/wsLogin", "a" * 32, 430), "http://phone.example/")
    server.draw_code = lambda code, base: drawn  # type: ignore[attr-defined]
    faults.SLOW_DELAY = TAKES
    wechat = server.WeChatStub(Platform([MiniProgram(APPID, SECRET)]), link="")
    wechat.faults.set("getwxacodeunlimit", "slow")
    site = Site("WeChat", wechat.application(), "127.0.0.1", port, "PORT")
    asyncio.run(serve_until_stopped([site], lambda urls: print(urls["WeChat"], flush=True)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
