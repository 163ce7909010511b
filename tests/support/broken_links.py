"""Clients that redeem a login over a connection that they reset, on every transport.

Each client returns the text that it received before the reset.  It sends its requests by
itself: a client library would hide or repeat what is under test.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import aiohttp
import jwt

from tests.support.builders import StartBroker
from tests.support.clients import PhoneClient
from tests.support.environment import free_port
from tests.support.nginx import nginx_before
from tests.support.servers.redis import Engines

GRANT = "urn:ietf:params:oauth:grant-type:device_code"

ANSWER_TIMEOUT = 30.0
"""Seconds that an answer may take on a busy machine."""

RESETS = (0.0, 0.003, 0.01, 0.05, 0.4)
"""Seconds until which a connection is reset: mostly while the answer is on its way."""

SOCKET_IO = "/socket.io/?EIO=4&transport="


class Code(NamedTuple):
    """What its browser knows of a login."""

    login_id: str
    scene: str
    secret: str

    def owned(self) -> dict[str, str]:
        return {"login_id": self.login_id, "secret": self.secret}


class Outcome(NamedTuple):
    """What became of one confirmed login.

    resets: connections that were reset.  cut: those of them that were reset before the
    token had arrived.  tokens: the claims of every token that arrived,
    over connections that were reset too.  is_lost: the last, unbroken attempt got none.
    """

    resets: int
    cut: int
    tokens: list[dict[str, Any]]
    is_lost: bool

    @property
    def is_double(self) -> bool:
        """Whether two tokens differ in any claim."""
        return any(claims != self.tokens[0] for claims in self.tokens)


Redeem = Callable[[str, Code, float | None], Awaitable[str]]
"""Redeem at a URL; reset the connection after so many seconds, None: never."""


async def exchange(url: str, request: bytes, reset_after: float | None) -> str:
    """Send a request over a new connection and return the response."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    received = b""
    try:
        writer.write(request)
        async with asyncio.timeout(ANSWER_TIMEOUT if reset_after is None else reset_after):
            while chunk := await reader.read(65_536):
                received += chunk
    except (TimeoutError, ConnectionError):
        pass
    finally:
        reset(writer.transport)
    return received.decode()


def reset(transport: asyncio.BaseTransport) -> None:
    """Close the connection with RST, as a network does that gives it up."""
    link = transport.get_extra_info("socket")
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert isinstance(transport, asyncio.WriteTransport)
    transport.abort()


def written(method: str, url: str, path: str, body: str = "", kind: str = "text/plain") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {urlsplit(url).netloc}",
        "Connection: close",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", body]).encode()


async def redeem_by_post(url: str, code: Code, reset_after: float | None) -> str:
    """RFC 8628, section 3.4."""
    device_code = f"{code.login_id}.{code.secret}"
    form = {"grant_type": GRANT, "client_id": "default", "device_code": device_code}
    kind = "application/x-www-form-urlencoded"
    request = written("POST", url, "/oauth/token", urlencode(form), kind)
    return await exchange(url, request, reset_after)


async def redeem_by_polling(url: str, code: Code, reset_after: float | None) -> str:
    """Engine.IO polling: the answer to the POST arrives in a GET, and that one is reset."""
    opened = await exchange(url, written("GET", url, f"{SOCKET_IO}polling"), None)
    [sid] = re.findall(r'"sid":"([^"]+)"', opened)
    path = f"{SOCKET_IO}polling&sid={sid}"

    async def post(packet: str) -> None:
        answer = await exchange(url, written("POST", url, path, packet), None)
        assert answer.startswith("HTTP/1.1 200"), answer

    async def poll_for(start: str, reset_after: float | None) -> str:
        while True:
            text = await exchange(url, written("GET", url, path), reset_after)
            if start in text or reset_after is not None:
                return text
            assert text.startswith("HTTP/1.1 200"), text

    await post("40/login,")
    await poll_for("40/login,", None)
    await post(f"42/login,1{json.dumps(['resume', code.owned()])}")
    resumed = await poll_for("43/login,1", None)
    assert '"confirmed"' in resumed, resumed
    poll = asyncio.create_task(poll_for("43/login,2", reset_after))
    await post(f"42/login,2{json.dumps(['redeem', code.owned()])}")
    return await poll


async def redeem_by_websocket(url: str, code: Code, reset_after: float | None) -> str:
    async with aiohttp.ClientSession() as http:
        link = await http.ws_connect(f"{url}{SOCKET_IO}websocket")

        async def receive(start: str) -> str:
            while True:
                text = str(await link.receive_str())
                if text.startswith(start):
                    return text

        async with asyncio.timeout(ANSWER_TIMEOUT):
            await link.send_str("40/login,")
            await receive("40/login,")
            await link.send_str(f"42/login,1{json.dumps(['resume', code.owned()])}")
            resumed = await receive("43/login,1")
        assert '"confirmed"' in resumed, resumed
        answer = ""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT if reset_after is None else reset_after):
                await link.send_str(f"42/login,2{json.dumps(['redeem', code.owned()])}")
                answer = await receive("43/login,2")
                if reset_after is not None:
                    await asyncio.Event().wait()  # the token may be there: the reset comes later
        except TimeoutError:
            pass
        finally:
            connection = link._response.connection
            assert connection is not None
            assert connection.transport is not None
            reset(connection.transport)
        return answer


TRANSPORTS: Mapping[str, Redeem] = {
    "post": redeem_by_post,
    "polling": redeem_by_polling,
    "websocket": redeem_by_websocket,
}


async def confirmed_login(http: aiohttp.ClientSession, url: str, phone: PhoneClient) -> Code:
    form = {"client_id": "default"}
    async with http.post(f"{url}/oauth/device_authorization", data=form) as response:
        begun = await response.json()
    secret = begun["device_code"].partition(".")[2]
    code = Code(begun["login_id"], begun["user_code"], secret)
    await phone.post("scan", {"scene": code.scene})
    confirmed = await phone.post("confirm", {"login_id": code.login_id})
    assert confirmed.body["state"] == "confirmed", confirmed.body
    return code


async def redeem_through_resets(
    urls: Sequence[str], code: Code, redeem: Redeem, chance: random.Random
) -> Outcome:
    """Redeem over one to three connections that break, then over one that does not."""
    texts, resets = [], chance.randint(1, 3)
    for _ in range(resets):
        reset_after = chance.uniform(0, chance.choice(RESETS))
        texts.append(await redeem(chance.choice(urls), code, reset_after))
    last = await redeem(chance.choice(urls), code, None)
    tokens = [claims for text in (*texts, last) for claims in claims_in(text)]
    cut = sum(not claims_in(text) for text in texts)
    return Outcome(resets, cut, tokens, is_lost=not claims_in(last))


def claims_in(text: str) -> list[dict[str, Any]]:
    """The claims of the token in an answer; none where it has none, or not all of it."""
    tokens = re.findall(r'"access_token":"([^"]+)"', text)
    return [jwt.decode(token, options={"verify_signature": False}) for token in tokens]


async def outcomes(urls: Sequence[str], transport: str, count: int, *, seed: int) -> list[Outcome]:
    """Let `count` people log in side by side over `transport` while connections break."""
    async with aiohttp.ClientSession() as http, PhoneClient(urls[-1]) as phone:

        async def log_in(number: int) -> Outcome:
            chance = random.Random(f"{seed} {transport} {number}")
            code = await confirmed_login(http, urls[0], phone)
            return await redeem_through_resets(urls, code, TRANSPORTS[transport], chance)

        limit = asyncio.Semaphore(8)

        async def limited(number: int) -> Outcome:
            async with limit:
                return await log_in(number)

        return await asyncio.gather(*map(limited, range(count)))


class Deployment(NamedTuple):
    """How many instances share which state, over which engine, and whether behind nginx."""

    state: str
    instances: int
    engine: str
    nginx: bool

    def __str__(self) -> str:
        way = "nginx" if self.nginx else "direct"
        return f"{self.state}-{self.instances}-{self.engine}-{way}"


@asynccontextmanager
async def deployed(
    deployment: Deployment, start_broker: StartBroker, engines: Engines, folder: Path
) -> AsyncIterator[list[str]]:
    """Serve it; gives the URLs that clients use."""
    settings = {
        "state_url": engines.url(deployment.state),
        "engine": deployment.engine,
        "key_file": folder / "keys.json",
        "public_url": "http://127.0.0.1",
        "begins_per_minute": 1_000_000,
    }
    urls = [(await start_broker(**settings)).url for _ in range(deployment.instances)]
    if not deployment.nginx:
        yield urls
        return
    async with nginx_before(urls, folder / "nginx", free_port(), rate="10000r/s") as url:
        yield [url]


async def check_that_resets_lose_no_token(urls: Sequence[str], *, logins: int, seed: int) -> None:
    """Let `login_counter` people log in on every transport; print and check what became of them."""
    for transport in TRANSPORTS:
        ended = await outcomes(urls, transport, logins, seed=seed)
        lost = sum(one.is_lost for one in ended)
        double = sum(one.is_double for one in ended)
        resets = sum(one.resets for one in ended)
        cut = sum(one.cut for one in ended)
        print(
            f"{transport}: {len(ended)} logins, {resets} resets, {cut} of them before the token "
            f"had arrived, {lost} lost, {double} with two tokens"
        )
        assert cut > 0
        assert (lost, double) == (0, 0), transport
