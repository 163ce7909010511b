"""Tests of the client address behind proxies, as the phone sees it."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web

from broker.infrastructure.api.client_address import ClientAddresses
from broker.infrastructure.runtime.server import Site, serve_sites
from tests.support.builders import RunningBroker, StartBroker
from tests.support.clients import PhoneClient

PROXY = "127.0.0.1"
TRUSTED = "127.0.0.1 10.0.0.0/8 2001:db8:ffff::/48"


async def address_seen(broker: RunningBroker, *headers: tuple[str, str]) -> str:
    """Begin a login with these headers and return the address that the phone sees."""
    async with (
        aiohttp.ClientSession(broker.url) as http,
        http.post(
            "/oauth/device_authorization", data={"client_id": "default"}, headers=headers
        ) as response,
    ):
        scene = (await response.json())["user_code"]
    async with PhoneClient(broker.url) as phone:
        return str((await phone.post("scan", {"scene": scene})).body["browser"]["ip"])


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:40000", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:DB8::1]:4711", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:40000, 10.0.0.1:50000", "203.0.113.7"),
        ("198.51.100.9, 203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, [2001:db8:ffff::5]:1", "203.0.113.7"),
        ("203.0.113.7, unknown, 10.0.0.1", "10.0.0.1"),
        ("203.0.113.7, ", PROXY),
        ("unknown", PROXY),
        ("203.0.113.7:", PROXY),
        ("203.0.113.7:123456", PROXY),
        ("[203.0.113.7", PROXY),
        ("2001:db8::1]:80", PROXY),
        ("999.0.0.1", PROXY),
    ],
)
async def test_x_forwarded_for_names_the_client(
    start_broker: StartBroker, value: str, address: str
) -> None:
    broker = await start_broker(trusted_proxies=TRUSTED)

    assert await address_seen(broker, ("X-Forwarded-For", value)) == address


@pytest.mark.parametrize(
    ("values", "address"),
    [
        (["for=203.0.113.7"], "203.0.113.7"),
        (["For=203.0.113.7;proto=https;by=10.0.0.1"], "203.0.113.7"),
        (["proto=https; for=203.0.113.7:40000"], "203.0.113.7"),
        (['for="[2001:db8::1]:4711"'], "2001:db8::1"),
        (['for="[2001:db8::1]:_port"'], "2001:db8::1"),
        (['for="[2001:db8::1]"'], "2001:db8::1"),
        (['for="203.0.\\113.7"'], "203.0.113.7"),
        (["for=198.51.100.9, for=203.0.113.7, for=10.0.0.1"], "203.0.113.7"),
        (["for=198.51.100.9", "for=203.0.113.7"], "203.0.113.7"),
        (['for=198.51.100.9;host="a, for=b"', "for=203.0.113.7"], "203.0.113.7"),
        (["for=203.0.113.7, for=unknown"], PROXY),
        (["for=203.0.113.7, for=_hidden, for=10.0.0.1"], "10.0.0.1"),
        (["for=203.0.113.7, proto=https"], PROXY),
        # A client may send these to hide the element that the proxy adds.
        (['for=198.51.100.9;x="', "for=203.0.113.7"], PROXY),
        (['for=198.51.100.9;x="', 'for="[2001:db8::1]"'], PROXY),
        (["for=198.51.100.9;", "for=203.0.113.7"], PROXY),
        (["for=198.51.100.9", "for=203.0.113.7;"], "203.0.113.7"),
        (["for=198.51.100.9", ""], PROXY),
        (["nonsense", "for=203.0.113.7"], PROXY),
    ],
)
async def test_forwarded_names_the_client(
    start_broker: StartBroker, values: list[str], address: str
) -> None:
    broker = await start_broker(trusted_proxies=TRUSTED, forwarded_header="forwarded")

    headers = [("Forwarded", value) for value in values]
    assert await address_seen(broker, *headers) == address


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded"])
async def test_other_forwarded_header_is_ignored(start_broker: StartBroker, header: str) -> None:
    broker = await start_broker(trusted_proxies=TRUSTED, forwarded_header=header)
    headers = {"x-forwarded-for": "203.0.113.7", "forwarded": "for=203.0.113.7"}
    del headers[header]

    assert await address_seen(broker, *headers.items()) == PROXY


async def test_header_of_an_untrusted_proxy_is_ignored(start_broker: StartBroker) -> None:
    broker = await start_broker(trusted_proxies="10.0.0.0/8")

    assert await address_seen(broker, ("X-Forwarded-For", "203.0.113.7:40000")) == PROXY


async def test_equal_texts_of_clients_are_shared_in_memory() -> None:
    addresses, callers = ClientAddresses(()), []

    async def receive(request: web.Request) -> web.Response:
        callers.append(addresses.caller(request))
        return web.Response()

    application = web.Application()
    application.add_routes([web.get("/", receive)])
    headers = {"Origin": "https://shop.example", "User-Agent": "Firefox"}
    async with serve_sites([Site("site", application, PROXY, 0, "PORT")]) as urls:
        for _ in range(2):
            async with aiohttp.ClientSession() as http:
                assert (await http.get(urls["site"], headers=headers)).ok

    one, other = callers
    assert one == ("https://shop.example", PROXY, "Firefox", None)
    assert [text is same for text, same in zip(one[:3], other[:3], strict=True)] == [True] * 3
