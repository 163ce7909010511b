"""A WeChat stub that takes 200 ms for a code and has one image for all codes.

`python -m bench.baselines.wechat PORT`. The delay stands for the network and WeChat's
servers. Drawing a code here would use CPU of the machine under test.
"""

from __future__ import annotations

import asyncio
import sys

from broker.infrastructure.runtime.server import Site, serve_until_signal
from mp_stub.wechat import faults, server
from mp_stub.wechat.codes import draw_code
from mp_stub.wechat.platform import APPID, SECRET, Code, MiniProgram, Platform

DRAW_DELAY = 0.2
"""Seconds. A usual duration of `getwxacodeunlimit`."""


def main(port: int) -> None:
    image = draw_code(Code(APPID, "pages/index/wsLogin", "a" * 32, 430), "http://phone.example/")
    server.draw_code = lambda code, base: image  # type: ignore[attr-defined]
    faults.SLOW_DELAY = DRAW_DELAY
    wechat = server.WeChatStub(Platform([MiniProgram(APPID, SECRET)]), link="")
    wechat.faults.set("getwxacodeunlimit", "slow")
    site = Site("WeChat", wechat.application(), "127.0.0.1", port, "PORT")
    asyncio.run(serve_until_signal([site], lambda urls: print(urls["WeChat"], flush=True)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
