"""Clients that redeem a login over a connection that they reset, on every transport.

Each client returns the text that it received before the reset. It writes its requests
itself: a client library would hide errors or repeat requests.
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
"""Maximum seconds of an answer on a busy machine."""

RESETS = (0.0, 0.003, 0.01, 0.05, 0.4)
"""Upper bounds of the time of a reset in seconds, mostly during the answer."""

SOCKET_IO = "/socket.io/?EIO=4&transport="


class Code(NamedTuple):
    """The identifiers of a login that its browser has."""

    login_id: str
    scene: str
    secret: str

    def owned(self) -> dict[str, str]:
        return {"login_id": self.login_id, "secret": self.secret}


class Outcome(NamedTuple):
    """The result of one confirmed login.

    resets: reset connections.
    cut: connections that were reset before the token arrived.
    tokens: the claims of every token that arrived, also over reset connections.
    is_lost: the last attempt, without a reset, got no token.
    """

    resets: int
    cut: int
    tokens: list[dict[str, Any]]
    is_lost: bool

    @property
    def is_double(self) -> bool:
        """Return whether two tokens differ in any claim."""
        return any(claims != self.tokens[0] for claims in self.tokens)


Redeem = Callable[[str, Code, float | None], Awaitable[str]]
"""Redeems at a URL, and resets the connection after the given seconds (None: never)."""


async def exchange(url: str, request: bytes, reset_after: float | None) -> str:
    """Send a request over a new connection and return the response."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
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
    """Close the connection with RST, as a failed network does."""
    websocket = transport.get_extra_info("socket")
    websocket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert isinstance(transport, asyncio.WriteTransport)
    transport.abort()


def build_request(
    method: str, url: str, path: str, body: str = "", kind: str = "text/plain"
) -> bytes:
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
    request = build_request("POST", url, "/oauth/token", urlencode(form), kind)
    return await exchange(url, request, reset_after)


async def redeem_by_polling(url: str, code: Code, reset_after: float | None) -> str:
    """Engine.IO polling: the answer to the POST arrives in a GET, and that one is reset."""
    opened = await exchange(url, build_request("GET", url, f"{SOCKET_IO}polling"), None)
    [sid] = re.findall(r'"sid":"([^"]+)"', opened)
    path = f"{SOCKET_IO}polling&sid={sid}"

    async def post(packet: str) -> None:
        answer = await exchange(url, build_request("POST", url, path, packet), None)
        assert answer.startswith("HTTP/1.1 200"), answer

    async def poll_for(start: str, reset_after: float | None) -> str:
        while True:
            text = await exchange(url, build_request("GET", url, path), reset_after)
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
        websocket = await http.ws_connect(f"{url}{SOCKET_IO}websocket")

        async def receive(start: str) -> str:
            while True:
                text = str(await websocket.receive_str())
                if text.startswith(start):
                    return text

        async with asyncio.timeout(ANSWER_TIMEOUT):
            await websocket.send_str("40/login,")
            await receive("40/login,")
            await websocket.send_str(f"42/login,1{json.dumps(['resume', code.owned()])}")
            resumed = await receive("43/login,1")
        assert '"confirmed"' in resumed, resumed
        answer = ""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT if reset_after is None else reset_after):
                await websocket.send_str(f"42/login,2{json.dumps(['redeem', code.owned()])}")
                answer = await receive("43/login,2")
                if reset_after is not None:
                    await asyncio.Event().wait()  # wait for the reset, also after the token
        except TimeoutError:
            pass
        finally:
            connection = websocket._response.connection
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
        new_login = await response.json()
    secret = new_login["device_code"].partition(".")[2]
    code = Code(new_login["login_id"], new_login["user_code"], secret)
    await phone.post("scan", {"scene": code.scene})
    confirmed = await phone.post("confirm", {"login_id": code.login_id})
    assert confirmed.body["state"] == "confirmed", confirmed.body
    return code


async def redeem_through_resets(
    urls: Sequence[str], code: Code, redeem: Redeem, rng: random.Random
) -> Outcome:
    """Redeem over one to three connections with a reset, then over one without."""
    texts, resets = [], rng.randint(1, 3)
    for _ in range(resets):
        reset_after = rng.uniform(0, rng.choice(RESETS))
        texts.append(await redeem(rng.choice(urls), code, reset_after))
    last = await redeem(rng.choice(urls), code, None)
    tokens = [claims for text in (*texts, last) for claims in claims_in(text)]
    cut = sum(not claims_in(text) for text in texts)
    return Outcome(resets, cut, tokens, is_lost=not claims_in(last))


def claims_in(text: str) -> list[dict[str, Any]]:
    """Return the claims of the complete tokens in an answer."""
    tokens = re.findall(r'"access_token":"([^"]+)"', text)
    return [jwt.decode(token, options={"verify_signature": False}) for token in tokens]


async def outcomes(urls: Sequence[str], transport: str, count: int, *, seed: int) -> list[Outcome]:
    """Run `count` concurrent logins over `transport` with connection resets."""
    async with aiohttp.ClientSession() as http, PhoneClient(urls[-1]) as phone:

        async def log_in(number: int) -> Outcome:
            rng = random.Random(f"{seed} {transport} {number}")
            code = await confirmed_login(http, urls[0], phone)
            return await redeem_through_resets(urls, code, TRANSPORTS[transport], rng)

        limit = asyncio.Semaphore(8)

        async def limited(number: int) -> Outcome:
            async with limit:
                return await log_in(number)

        return await asyncio.gather(*map(limited, range(count)))


class Deployment(NamedTuple):
    """The state, number of instances, engine and proxy of a deployment."""

    state: str
    instances: int
    engine: str
    nginx: bool

    def __str__(self) -> str:
        route = "nginx" if self.nginx else "direct"
        return f"{self.state}-{self.instances}-{self.engine}-{route}"


@asynccontextmanager
async def deployed(
    deployment: Deployment, start_broker: StartBroker, engines: Engines, folder: Path
) -> AsyncIterator[list[str]]:
    """Serve the deployment; yields the URLs for clients."""
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
    """Run `logins` logins on every transport; print and check the results."""
    for transport in TRANSPORTS:
        results = await outcomes(urls, transport, logins, seed=seed)
        lost = sum(outcome.is_lost for outcome in results)
        double = sum(outcome.is_double for outcome in results)
        resets = sum(outcome.resets for outcome in results)
        cut = sum(outcome.cut for outcome in results)
        print(
            f"{transport}: {len(results)} logins, {resets} resets, {cut} of them before the token "
            f"had arrived, {lost} lost, {double} with two tokens"
        )
        assert cut > 0
        assert (lost, double) == (0, 0), transport
